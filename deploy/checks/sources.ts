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

/** Tests and what only they use: may reach down to any layer. */
export function isTestFile(file: string): boolean {
  return /\.test\.ts$|(^|\/)test-kit\.ts$/.test(file)
}
