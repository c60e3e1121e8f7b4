import { execFile } from 'node:child_process'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import packed from '@sparticuz/chromium'
import axe from 'axe-core'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

/** A real Chromium for tests. */
export interface TestBrowser {
  /** A page with a session and storage of its own. */
  open(options?: OpenOptions): Promise<Visit>
  close(): Promise<void>
}

export interface OpenOptions {
  readonly scheme?: 'light' | 'dark'
  readonly width?: number
  readonly height?: number
}

export interface Visit {
  readonly page: Page
  readonly context: BrowserContext
  /** What no page of ours may cause: breaches of the policy, errors of scripts, requests to anywhere else. */
  readonly troubles: readonly string[]
  /** Requests so far, as method and URL. */
  readonly requests: readonly string[]
  /** What axe-core finds of impact serious or critical, one line each. */
  checkAccess(): Promise<readonly string[]>
  close(): Promise<void>
}

const TEMPORARY = 'TMPDIR'
const START_MS = 60_000
const PREFIX = 'doorman-chromium-'
/** No test runs for so long. */
const STALE_MS = 7_200_000
/** Of a machine that does much else. */
const ACTION_MS = 20_000
/** Not those of the package: they switch off what is tested here, such as the same-origin policy. */
const ARGS = [
  ...['--headless=shell', '--no-zygote', '--disable-gpu', '--disable-dev-shm-usage'],
  ...['--font-render-hinting=none', '--hide-scrollbars'],
  // As root there is no other way, and the pages are our own.
  '--no-sandbox',
]
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']

/** Unpacks the browser into a folder of this process, which `close` takes away. */
export async function startBrowser(): Promise<TestBrowser> {
  await sweep()
  const folder = await mkdtemp(join(tmpdir(), PREFIX))
  const remove = () => rm(folder, { recursive: true, force: true })
  let browser: Browser
  try {
    const executablePath = await unpack(folder)
    browser = await chromium.launch({
      ...{ executablePath, args: ARGS, headless: true, timeout: START_MS },
      env: {
        HOME: folder,
        [TEMPORARY]: folder,
        LD_LIBRARY_PATH: await librariesFor(executablePath),
      },
    })
  } catch (error) {
    await remove()
    throw error
  }
  return {
    open: options => open(browser, options),
    async close() {
      await browser.close()
      await remove()
    },
  }
}

/** Of tests that were killed: each has left a whole browser. */
async function sweep(): Promise<void> {
  const names = await readdir(tmpdir())
  for (const name of names.filter(one => one.startsWith(PREFIX))) {
    const folder = join(tmpdir(), name)
    const left = await stat(folder).catch(() => null)
    if (left === null || left.uid !== process.getuid?.() || Date.now() - left.mtimeMs < STALE_MS)
      continue
    await rm(folder, { recursive: true, force: true })
  }
}

function unpack(folder: string): Promise<string> {
  packed.setGraphicsMode = false
  return withTemporary(folder, () => packed.executablePath())
}

/** The package unpacks to where temporary files go, and takes what it finds there for its own. */
async function withTemporary<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const { env } = process
  const before = env[TEMPORARY]
  env[TEMPORARY] = folder
  try {
    return await work()
  } finally {
    if (before === undefined) delete env[TEMPORARY]
    else env[TEMPORARY] = before
  }
}

/** Machines without NSS, as containers are: the package brings it. */
async function librariesFor(executable: string): Promise<string> {
  const folder = dirname(executable)
  const starts = promisify(execFile)(executable, ['--version'], { timeout: START_MS })
  const isWhole = await starts.then(
    () => true,
    () => false,
  )
  if (isWhole) return ''
  const main = fileURLToPath(import.meta.resolve('@sparticuz/chromium'))
  const { inflate } = (await import(pathToFileURL(join(dirname(main), 'lambdafs.js')).href)) as {
    inflate(file: string): Promise<string>
  }
  const archive = join(dirname(main), '..', 'bin', 'al2023.tar.br')
  return join(await withTemporary(folder, () => inflate(archive)), 'lib')
}

async function open(
  browser: Browser,
  { scheme = 'light', width = 1280, height = 800 }: OpenOptions = {},
): Promise<Visit> {
  const context = await browser.newContext({
    colorScheme: scheme,
    viewport: { width, height },
    reducedMotion: 'reduce',
  })
  const page = await context.newPage()
  page.setDefaultTimeout(ACTION_MS)
  const troubles: string[] = []
  const requests: string[] = []
  page.on('pageerror', error => troubles.push(`error: ${error.message}`))
  page.on('console', message => {
    // A breach of the policy is an error of the console. Answers that refuse are too; the tests look at them by themselves.
    const isRefusal = message.text().startsWith('Failed to load resource')
    if (message.type() === 'error' && !isRefusal) troubles.push(`console: ${message.text()}`)
  })
  page.on('dialog', dialog => {
    troubles.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('request', request => {
    requests.push(`${request.method()} ${request.url()}`)
    const { origin } = new URL(page.url() === 'about:blank' ? request.url() : page.url())
    if (new URL(request.url()).origin !== origin) troubles.push(`elsewhere: ${request.url()}`)
  })
  return {
    ...{ page, context, troubles, requests },
    checkAccess: () => checkAccess(page),
    close: () => context.close(),
  }
}

async function checkAccess(page: Page): Promise<readonly string[]> {
  // By the debugger's protocol, as the policy lets nothing else in.
  const isThere = await page.evaluate('typeof axe === "object"')
  if (!isThere) await page.evaluate(axe.source)
  const found = (await page.evaluate(
    `axe.run(document, { runOnly: { type: 'tag', values: ${JSON.stringify(RULES)} } })`,
  )) as axe.AxeResults
  return found.violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id}: ${target.join(' ')}: ${failureSummary}`),
    )
}
