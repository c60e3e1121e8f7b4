import { request } from 'node:http'
import { buffer, json } from 'node:stream/consumers'
import type { Ended } from './engine.ts'

/*
 * node deploy/compose/rehearsal/docker.ts SOCKET WORD …
 *
 * `docker` on the PATH of the documented commands: hands its words and its standard input to the rehearsal that
 * listens on SOCKET, and ends as it is told. It reads its input only where the words say that there is one.
 */
const [socketPath = '', ...words] = process.argv.slice(2)
const input = words.includes('-T') ? await buffer(process.stdin) : Buffer.alloc(0)
const headers = { 'x-words': encodeURIComponent(JSON.stringify(words)) }
const asked = request({ socketPath, method: 'POST', headers, agent: false }, async answer => {
  const { code, out, err } = (await json(answer)) as Ended
  process.stdout.write(out)
  process.stderr.write(err)
  process.exitCode = code
})
asked.on('error', error => {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
})
asked.end(input)
