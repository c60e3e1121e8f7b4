import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Worker } from 'node:worker_threads'
import type { Log } from '../lib/log.ts'
import { ASSETS_BASE, type Asset, CONSOLE_BASE } from './build.ts'

/** The files of the console. They are the same for everyone; what they show comes from the admin API. */
export interface ConsoleFiles {
  /** True where the request was taken. */
  take(req: IncomingMessage, res: ServerResponse): boolean
}

const BUILD_MS = 20_000
const FIRST_PAGE = `${CONSOLE_BASE}/tenants`

/**
 * Nothing inline, nothing from elsewhere, no string that becomes code or markup (Trusted Types), no form that is
 * sent by itself, which would put a key into a URL.
 */
export const CONSOLE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

const FIELDS = {
  'content-security-policy': CONSOLE_POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
} as const

/** Made ready when somebody first asks, for most gateways are never asked. */
export function serveConsole(log: Log): ConsoleFiles {
  let files: Promise<ReadonlyMap<string, Asset>> | null = null
  const load = () => {
    files ??= build().catch(error => {
      files = null
      throw error
    })
    return files
  }
  return {
    take(req, res) {
      const path = req.url?.split('?', 1)[0] ?? ''
      if (path !== CONSOLE_BASE && !path.startsWith(`${CONSOLE_BASE}/`)) return false
      req.resume()
      if (req.method !== 'GET' && req.method !== 'HEAD') {
        res.writeHead(405, { ...FIELDS, allow: 'GET, HEAD' }).end()
      } else if (path === CONSOLE_BASE || path === `${CONSOLE_BASE}/`) {
        res.writeHead(302, { ...FIELDS, location: FIRST_PAGE }).end()
      } else {
        load().then(
          built => send(req, res, built, path),
          error => {
            log.error({ err: error }, 'the console cannot be served')
            res.writeHead(503, { ...FIELDS, 'content-type': 'text/plain', 'retry-after': '5' })
            res.end('The console cannot be served; the log of the gateway says why.\n')
          },
        )
      }
      return true
    },
  }
}

async function build(): Promise<ReadonlyMap<string, Asset>> {
  const worker = new Worker(new URL('./build-worker.ts', import.meta.url), {
    // Stripping types by a call is experimental still, and says so on standard error.
    execArgv: ['--disable-warning=ExperimentalWarning'],
    // It needs none of the secrets there.
    env: {},
  })
  try {
    const signal = AbortSignal.timeout(BUILD_MS)
    const [assets] = (await once(worker, 'message', { signal })) as [readonly Asset[]]
    return new Map(assets.map(asset => [asset.path, asset]))
  } finally {
    // After this an error of it has no listener.
    worker.on('error', () => {})
    await worker.terminate()
  }
}

function send(
  req: IncomingMessage,
  res: ServerResponse,
  files: ReadonlyMap<string, Asset>,
  path: string,
): void {
  const isAsset = path.startsWith(`${ASSETS_BASE}/`)
  // Every other address below /admin is the page's own matter.
  const asset = files.get(isAsset ? path : CONSOLE_BASE)
  if (asset === undefined) {
    // An older page asks for what this release no longer has.
    res.writeHead(404, { ...FIELDS, 'content-type': 'text/plain', 'cache-control': 'no-store' })
    res.end()
    return
  }
  const coding = codingFor(req.headers['accept-encoding'])
  const body = asset[coding]
  res.writeHead(200, {
    ...FIELDS,
    'content-type': asset.type,
    'content-length': body.byteLength,
    'cache-control': asset.isForever ? 'public, max-age=31536000, immutable' : 'no-store',
    vary: 'accept-encoding',
    ...(coding !== 'plain' && { 'content-encoding': coding }),
  })
  res.end(req.method === 'HEAD' ? undefined : body)
}

function codingFor(accepted: string | string[] | undefined): 'br' | 'gzip' | 'plain' {
  const words = String(accepted ?? '')
    .toLowerCase()
    .split(',')
    // Whoever weighs one down gets another.
    .map(word => word.trim())
  if (words.includes('br')) return 'br'
  return words.includes('gzip') ? 'gzip' : 'plain'
}
