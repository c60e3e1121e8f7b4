import t from 'tap'
import { selfTimes } from './profile.ts'

const frame = (functionName: string, url = '', lineNumber = 0) => ({
  functionName,
  url,
  lineNumber,
})

t.test('self time is summed by function, idle left out, most first', async t => {
  const found = selfTimes({
    nodes: [
      { id: 1, callFrame: frame('(idle)') },
      { id: 2, callFrame: frame('writev') },
      { id: 3, callFrame: frame('sign', 'file:///x/y/registry/context.ts', 9) },
      { id: 4, callFrame: frame('', 'file:///x/node_modules/jose/dist/a.js', 0) },
      { id: 5, callFrame: frame('writev') },
    ],
    samples: [1, 2, 3, 4, 5],
    timeDeltas: [1000, 30, 50, 10, 10],
  })
  t.same(found, [
    { name: 'sign y/registry/context.ts:10', share: 0.5 },
    { name: 'writev', share: 0.4 },
    { name: '(anonymous) jose/dist/a.js:1', share: 0.1 },
  ])
})

t.test('nothing sampled, nothing shown', async t => {
  t.same(selfTimes({ nodes: [], samples: [], timeDeltas: [] }), [])
})
