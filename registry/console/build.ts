import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { stripTypeScriptTypes } from 'node:module'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'

/** A file as the console is served it, compressed beforehand. */
export interface Asset {
  /** Path of the URL. */
  readonly path: string
  readonly type: string
  readonly plain: Uint8Array
  readonly gzip: Uint8Array
  readonly br: Uint8Array
  /** Its name holds a hash of its content: it never changes. */
  readonly isForever: boolean
}

export const CONSOLE_BASE = '/admin'
export const ASSETS_BASE = `${CONSOLE_BASE}/assets`

const WEB = join(import.meta.dirname, 'web')
const ENTRY = join(WEB, 'main.ts')
const HASH_CHARS = 12
const BROTLI_QUALITY = 9
/** A statement at the begin of a line, which a minifier writes too where a file begins with it. */
const IMPORT = /^((?:import|export)\b[^;'"`]*?\bfrom\s*|import\s*)(['"])([^'"]+)\2/gm

/**
 * The console as it is served: its modules with the types stripped, each under a name that holds the hash of its
 * content and of all that it imports, so that browsers may keep them for ever. No bundle and no build step: these
 * are the files of `web/` and those of the packages that they import.
 *
 * @returns the page first
 */
export async function buildConsole(): Promise<readonly Asset[]> {
  const scripts = await linkModules()
  const style = await readStyle()
  const icon = await named('icon', 'svg', 'image/svg+xml', await readFile(join(WEB, 'icon.svg')))
  const page = await pageOf(
    scripts.map(({ path }) => path),
    style.path,
    icon.path,
  )
  return [page, style, icon, ...scripts]
}

/** In the order in which they are needed; the last one is the entry. */
async function linkModules(): Promise<readonly Asset[]> {
  const done = new Map<string, Asset>()
  const visit = async (file: string, path: readonly string[]): Promise<Asset> => {
    const known = done.get(file)
    if (known !== undefined) return known
    if (path.includes(file)) throw new Error(`modules in a circle: ${[...path, file].join(' > ')}`)
    const source = await readFile(file, 'utf8')
    const code = file.endsWith('.ts') ? stripTypeScriptTypes(source) : source
    const urls = new Map<string, string>()
    for (const [, , , specifier = ''] of code.matchAll(IMPORT)) {
      const imported = await visit(fileOf(specifier, file), [...path, file])
      urls.set(specifier, imported.path)
    }
    const linked = code
      .replace(IMPORT, (_, head, quote, name) => `${head}${quote}${urls.get(name)}${quote}`)
      .replace(/^\/\/# sourceMappingURL=.*$/m, '')
    const asset = await named(nameOf(file), 'js', 'text/javascript; charset=utf-8', linked)
    done.set(file, asset)
    return asset
  }
  await visit(ENTRY, [])
  return [...done.values()]
}

/** A file of ours, or the module that a package gives for its name. */
function fileOf(specifier: string, from: string): string {
  if (specifier.startsWith('.')) return resolve(dirname(from), specifier)
  return fileURLToPath(import.meta.resolve(specifier))
}

function nameOf(file: string): string {
  const own = relative(WEB, file)
  const name = own.startsWith('..') ? (/([^/\\]+)$/.exec(file)?.[1] ?? file) : own
  return name.replace(/\.m?[jt]s$/, '').replace(/[^A-Za-z0-9-]/g, '-')
}

/** All of `web/style/`, by name. */
async function readStyle(): Promise<Asset> {
  const folder = join(WEB, 'style')
  const names = (await readdir(folder)).filter(name => name.endsWith('.css')).sort()
  const parts = await Promise.all(names.map(name => readFile(join(folder, name), 'utf8')))
  return named('style', 'css', 'text/css; charset=utf-8', parts.join('\n'))
}

async function named(
  name: string,
  extension: string,
  type: string,
  content: string | Uint8Array,
): Promise<Asset> {
  const hash = createHash('sha256').update(content).digest('base64url').slice(0, HASH_CHARS)
  return compressed(`${ASSETS_BASE}/${name}.${hash}.${extension}`, type, content, true)
}

/** One page for all addresses; it holds nothing of anyone, and its scripts ask for what they show. */
async function pageOf(scripts: readonly string[], style: string, icon: string): Promise<Asset> {
  const preloads = scripts.slice(0, -1).map(path => `<link rel="modulepreload" href="${path}">`)
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Doorman</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" type="image/svg+xml" href="${icon}">
<link rel="stylesheet" href="${style}">
${preloads.join('\n')}
<script type="module" src="${scripts.at(-1)}"></script>
</head>
<body>
<div id="app"></div>
<noscript>The console needs JavaScript. The admin API at /api/admin does not.</noscript>
</body>
</html>
`
  return compressed(CONSOLE_BASE, 'text/html; charset=utf-8', html, false)
}

async function compressed(
  path: string,
  type: string,
  content: string | Uint8Array,
  isForever: boolean,
): Promise<Asset> {
  const plain = Buffer.from(content)
  const [zipped, br] = await Promise.all([
    promisify(gzip)(plain, { level: 9 }),
    promisify(brotliCompress)(plain, {
      params: { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY },
    }),
  ])
  return { path, type, plain, gzip: zipped, br, isForever }
}
