import fc from 'fast-check'
import t from 'tap'
import { parseUsageField } from './usage-field.ts'

t.test('a dictionary of integers is read, in any spacing; the last of a name counts', async t => {
  const read = (text: string) => {
    const counters = parseUsageField(text)
    return typeof counters === 'string' ? counters : Object.fromEntries(counters)
  }
  t.strictSame(read('pdf_generated=1'), { pdf_generated: 1 })
  t.strictSame(read(' pdf_generated=1 ,\temails=3'), { pdf_generated: 1, emails: 3 })
  t.strictSame(read('a=1, a=007'), { a: 7 })
  t.strictSame(read('a=999999999'), { a: 999_999_999 })
})

t.test('whatever else it says spoils the whole field', async t => {
  const malformed = ['', ',', 'a', 'a=', '=1', 'a=-1', 'a=+1', 'a=1.5', 'a=1e3', 'a=0x1', 'a="1"']
  malformed.push('a=?1', 'a=(1)', 'a=1;b=2', 'A=1', '1a=1', 'a=1,', 'a=1 b=2', 'a=1000000000')
  malformed.push('a=１', 'a=1\u00a0', 'a =1', 'a= 1', `${'a'.repeat(33)}=1`, 'a=1\n', 'b=1, a=x')
  for (const text of malformed) t.equal(parseUsageField(text), 'malformed', JSON.stringify(text))
  t.equal(parseUsageField(`a=1${' '.repeat(512)}`), 'too-long')
  t.equal(parseUsageField(Array.from({ length: 17 }, (_, i) => `a${i}=1`).join(',')), 'too-long')
  for (const name of [
    'api_requests',
    'storage_gb',
    'active_users',
    'responses_2xx',
    'requests_x',
  ]) {
    t.equal(parseUsageField(`emails=1, ${name}=5`), 'reserved')
  }
})

t.test('property: it never throws, and counts nothing below 0 or beyond nine digits', async t => {
  const piece = fc.constantFrom(
    'a',
    '=',
    '1',
    ',',
    ' ',
    '\t',
    'b_c',
    '-',
    ';',
    '9'.repeat(10),
    '\0',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(piece).map(list => list.join('')),
  )
  fc.assert(
    fc.property(text, field => {
      const counters = parseUsageField(field)
      if (typeof counters === 'string') return true
      return [...counters].every(
        ([name, value]) =>
          /^[a-z][a-z0-9_]{0,31}$/.test(name) &&
          Number.isInteger(value) &&
          value >= 0 &&
          value < 1e9,
      )
    }),
    { numRuns: 2000 },
  )
  t.pass()
})
