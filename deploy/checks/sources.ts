import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

export const ROOT = join(import.meta.dirname, '..', '..')
export const CODE_FOLDERS = ['gateway', 'app', 'registry', 'migrations', 'deploy', 'bench']

/** TypeScript files of the repository, as paths from its root. */
export function sourceFiles(): string[] {
  return CODE_FOLDERS.flatMap(folder =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .map(name => `${folder}/${name}`)
      .filter(name => name.endsWith('.ts') && !name.includes('node_modules')),
  )
}

export function readSource(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8')
}

/** Files of ours that `file` imports, types included. */
export function importsOf(file: string): string[] {
  return resolveAll(file, /(?:from|import\(?)\s+?'(\.[^']+)'/g)
}

/** The same without `import type`: what is loaded at run time. */
export function loadsOf(file: string): string[] {
  return resolveAll(file, /^(?:import|export)\s(?!type\s)(?:[^;'"]*?\sfrom\s)?'(\.[^']+)'/gm)
}

function resolveAll(file: string, pattern: RegExp): string[] {
  return [...readSource(file).matchAll(pattern)].map(([, specifier]) =>
    normalize(join(dirname(file), specifier as string)),
  )
}

/** Packages that `file` loads at run time, by name. */
export function packagesOf(file: string): string[] {
  const loads =
    /^(?:import|export)\s(?!type\s)(?:[^;'"]*?\sfrom\s)?'([^.'][^']*)'|\bimport\('([^.'][^']*)'\)/gm
  return [...readSource(file).matchAll(loads)]
    .map(([, fixed, late]) => (fixed ?? late) as string)
    .filter(name => !name.startsWith('node:'))
    .map(name =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/'),
    )
}

/** Tests and what only they use: may reach down to any layer. */
export function isTestFile(file: string): boolean {
  return /\.test\.ts$|(^|\/)(test-kit|fault-proxy)\.ts$/.test(file)
}

/** Names of the tests in a test file, as they are shown. */
export function testNamesOf(file: string): string[] {
  const calls = readSource(file).matchAll(/\bt\.test\(\s*(['"`])((?:\\.|(?!\1).)*)\1/g)
  return [...calls].map(([, , name]) => (name as string).replace(/\\(.)/g, '$1'))
}

/** What a person reads first. */
export const DOCS = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'deploy/metrics.md',
  'deploy/runbook.md',
  'bench/README.md',
  ...readdirSync(join(ROOT, 'docs')).map(name => `docs/${name}`),
]

export interface Link {
  readonly text: string
  /** Path from the root; empty for a place in the same file. */
  readonly file: string
  /** Without `#`; empty where there is none. */
  readonly anchor: string
}

/** Links of `doc` that lead to files of ours. */
export function linksOf(doc: string): Link[] {
  const links = readSource(doc).matchAll(
    /\[((?:[^\][]|\[[^\][]*\])*)\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)/g,
  )
  return [...links].map(([, text = '', path = '', anchor = '']) => ({
    text,
    file: path === '' ? doc : normalize(join(dirname(doc), path)),
    anchor,
  }))
}

/** The anchors of a document's headings, as code hosts make them. */
export function anchorsOf(doc: string): string[] {
  return [...withoutFences(readSource(doc)).matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

export function withoutFences(markdown: string): string {
  return markdown.replace(/^```[\s\S]*?^```/gm, '')
}
