import t from 'tap'
import { Needles } from './needles.ts'

const find = (needles: string[], text: string) =>
  [...new Needles(needles.map(needle => [needle, needle] as const)).find(text)].map(
    ({ at, value }) => `${at} ${value}`,
  )

t.test('needles are found wherever they stand, also within and behind one another', async t => {
  t.strictSame(find(['abcd', 'bcde', 'abcdef'], 'xabcdefabcd'), [
    ...['1 abcd', '1 abcdef', '2 bcde', '7 abcd'],
  ])
  t.strictSame(find(['abc'], 'abc'), ['0 abc'])
  t.strictSame(find(['abcd'], 'abc'), [])
  t.strictSame(find(['aaa'], 'aaaaa'), ['0 aaa', '1 aaa', '2 aaa'])
  t.throws(() => find(['', 'a'], 'a'))
})

t.test('the same as a search for each by itself', async t => {
  let state = 1
  const random = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return (state >>> 8) % below
  }
  const word = (length: number) => Array.from({ length }, () => 'abcü\n'.charAt(random(5))).join('')
  for (let round = 0; round < 50; round++) {
    const text = word(400)
    const needles = [...new Set(Array.from({ length: 20 }, () => word(3 + random(4))))]
    const expected = needles.filter(needle => text.includes(needle))
    const found = find(needles, text).map(line => line.replace(/^\d+ /, ''))
    t.strictSame([...new Set(found)].sort(), expected.sort())
  }
})
