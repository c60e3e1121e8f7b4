import t from 'tap'
import { z } from 'zod'
import { commonEnv, EnvError, flag, int, list, port, readEnv, url } from './env.ts'

t.test('what is unset or empty takes its standard; lists are trimmed', async t => {
  const shape = { ...commonEnv, N: int(1, 9, 5), F: flag(true), L: list(), P: port(80) }
  t.strictSame(readEnv(shape, { N: '', L: ' a, ,b ' }), {
    ...{ NODE_ENV: 'development', LOG_LEVEL: 'info', N: 5, F: true, L: ['a', 'b'], P: 80 },
  })
  t.match(readEnv(shape, { N: '9', F: '0', P: '0' }), { N: 9, F: false, P: 0 })
})

t.test('all problems at once, each with its name, none with its value', async t => {
  const shape = {
    ...{ A: z.string(), N: int(1, 9, 5), F: flag(false), P: port(1), EMPTY: z.string() },
    U: url('postgres:'),
    LOG_LEVEL: commonEnv.LOG_LEVEL,
  }
  const env = {
    N: 'MARKER',
    F: 'MARKER',
    P: '65536',
    U: 'http://MARKER',
    EMPTY: '',
    LOG_LEVEL: 'x',
  }
  try {
    readEnv(shape, env)
    t.fail('was read')
  } catch (error) {
    if (!(error instanceof EnvError)) throw error
    const names = error.problems.map(problem => problem.split(' ')[0])
    t.strictSame(names.sort(), ['A', 'EMPTY', 'F', 'LOG_LEVEL', 'N', 'P', 'U'])
    t.match(error.problems, ['A is required'])
    t.notMatch(error.message, 'MARKER')
  }
})

t.test('a whole number is digits alone, within its bounds', async t => {
  for (const text of ['0', '10', '1.5', '1e0', ' 5', '0x5', '-1', '٥', '99999999999999999999']) {
    t.throws(() => readEnv({ N: int(1, 9, 5) }, { N: text }), EnvError, text)
  }
})
