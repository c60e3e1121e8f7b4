import { get } from 'node:http'

/*
 * HEALTHCHECK of the images: `node deploy/image/healthcheck.ts STANDARD_PORT [PATH]` asks the internal listener for PATH
 * (/livez), and ends with 0 where the answer is 200. Not /readyz unless it is asked for: who restarts what is
 * unhealthy would restart every gateway because the Registry is away.
 */
const [standardPort, path = '/livez'] = process.argv.slice(2)
const { ADMIN_PORT, ADMIN_HOST } = process.env
const TIMEOUT_MS = 2000

const request = get(
  {
    // What listens on all addresses listens on this one.
    host: !ADMIN_HOST || ADMIN_HOST === '0.0.0.0' || ADMIN_HOST === '::' ? '127.0.0.1' : ADMIN_HOST,
    port: ADMIN_PORT || standardPort,
    path,
    agent: false,
    timeout: TIMEOUT_MS,
  },
  answer => {
    answer.resume()
    end(answer.statusCode === 200 ? null : `${path} answers ${answer.statusCode}`)
  },
)
request.on('timeout', () => end(`${path} does not answer within ${TIMEOUT_MS} ms`))
request.on('error', error => end(`${path}: ${error.message}`))

function end(problem: string | null): void {
  if (problem !== null) process.stderr.write(`${problem}\n`)
  process.exit(problem === null ? 0 : 1)
}
