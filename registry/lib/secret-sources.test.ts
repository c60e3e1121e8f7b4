import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { z } from 'zod'
import { EnvError, list, readEnv } from './env.ts'
import { readSecretSources } from './secret-sources.ts'

const shape = {
  MASTER_ENCRYPTION_KEY: z.string(),
  MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
  JWT_SECRET_ACCESS_TOKEN: z.string().optional(),
  LOG_LEVEL: z.string().default('info'),
}
const problemsOf = (env: NodeJS.ProcessEnv) => {
  try {
    readEnv(shape, env)
    return []
  } catch (error) {
    if (error instanceof EnvError) return error.problems
    throw error
  }
}

t.test('a secret may stand in a file; the break at its end is none of it', async t => {
  const dir = t.testdir({ master: ' a-master key, with a comma\r\n', old: 'one\ntwo\n\nthree\n' })
  const read = readEnv(shape, {
    MASTER_ENCRYPTION_KEY_FILE: join(dir, 'master'),
    MASTER_ENCRYPTION_KEY_PREVIOUS_FILE: join(dir, 'old'),
  })
  t.strictSame(read, {
    MASTER_ENCRYPTION_KEY: 'a-master key, with a comma',
    MASTER_ENCRYPTION_KEY_PREVIOUS: ['one', 'two', 'three'],
    JWT_SECRET_ACCESS_TOKEN: undefined,
    LOG_LEVEL: 'info',
  })
})

t.test('only secrets have files, and only master keys commands', async t => {
  const dir = t.testdir({ value: 'debug' })
  const env = { MASTER_ENCRYPTION_KEY: 'k', LOG_LEVEL_FILE: join(dir, 'value') }
  t.equal(readEnv(shape, env).LOG_LEVEL, 'info')
  const token = readEnv(shape, { ...env, JWT_SECRET_ACCESS_TOKEN_COMMAND: 'echo x' })
  t.equal(token.JWT_SECRET_ACCESS_TOKEN, undefined)
})

t.test('a master key may come from a command, which runs once', async t => {
  const counter = join(t.testdir(), 'runs')
  const sources = readSecretSources({
    MASTER_ENCRYPTION_KEY_COMMAND: `echo run >> '${counter}'; echo 'unwrapped key'`,
  })
  t.equal(readEnv(shape, {}, sources).MASTER_ENCRYPTION_KEY, 'unwrapped key')
  t.equal(execFileSync('cat', [counter], { encoding: 'utf8' }), 'run\n')
})

t.test(
  'what is wrong with a source is one problem beside the others, and shows no byte',
  async t => {
    const dir = t.testdir({ empty: ' \n', large: '' })
    writeFileSync(join(dir, 'large'), 'MARKER'.repeat(20_000))
    const failing = 'echo MARKER; echo MARKER >&2; exit 7'
    const cases: [NodeJS.ProcessEnv, readonly (string | RegExp)[]][] = [
      [
        { MASTER_ENCRYPTION_KEY_FILE: '/no/such' },
        ['MASTER_ENCRYPTION_KEY_FILE cannot be read: ENOENT'],
      ],
      [
        { MASTER_ENCRYPTION_KEY_FILE: dir },
        [/^MASTER_ENCRYPTION_KEY_FILE cannot be read: EISDIR$/],
      ],
      [{ MASTER_ENCRYPTION_KEY_FILE: join(dir, 'empty') }, [/_FILE gives nothing$/]],
      [{ MASTER_ENCRYPTION_KEY_FILE: join(dir, 'large') }, [/_FILE is larger than 65536 bytes$/]],
      [{ MASTER_ENCRYPTION_KEY_COMMAND: failing }, [/_COMMAND failed: exit code 7/]],
      [{ MASTER_ENCRYPTION_KEY_COMMAND: 'yes MARKER' }, [/_COMMAND failed: ENOBUFS/]],
      [{ MASTER_ENCRYPTION_KEY_COMMAND: 'true' }, [/_COMMAND gives nothing$/]],
      [
        { MASTER_ENCRYPTION_KEY: 'MARKER', MASTER_ENCRYPTION_KEY_COMMAND: 'echo MARKER' },
        [
          /^MASTER_ENCRYPTION_KEY, MASTER_ENCRYPTION_KEY_FILE and MASTER_ENCRYPTION_KEY_COMMAND: one/,
        ],
      ],
      [
        { MASTER_ENCRYPTION_KEY_PREVIOUS_FILE: '/no/such' },
        [
          'MASTER_ENCRYPTION_KEY_PREVIOUS_FILE cannot be read: ENOENT',
          'MASTER_ENCRYPTION_KEY is required',
        ],
      ],
    ]
    for (const [env, expected] of cases) {
      const problems = problemsOf(env)
      t.equal(problems.length, expected.length)
      t.match(problems, expected)
      t.notMatch(problems.join(), 'MARKER')
    }
  },
)
