import { globSync, statSync } from 'node:fs'
import { join, matchesGlob } from 'node:path'

/** What this repository's own Dockerfiles say, as far as their test repeats it. */
export interface Dockerfile {
  /** The default of the build argument that the base comes from. */
  readonly base: string
  /** Of the last stage: what is copied from the repository. */
  readonly copies: readonly { readonly sources: readonly string[]; readonly target: string }[]
  readonly env: Readonly<Record<string, string>>
  readonly user: string
  readonly ports: readonly number[]
  readonly entrypoint: readonly string[]
  readonly command: readonly string[]
  readonly healthcheck: readonly string[]
  /** Programs that are run once, so that they fill the compile cache. */
  readonly warmed: readonly string[]
  /** All steps, one to an entry, continued lines joined. */
  readonly steps: readonly string[]
}

export function parseDockerfile(text: string): Dockerfile {
  const steps = text
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter(line => line !== '')
  const last = steps.slice(steps.findLastIndex(step => step.startsWith('FROM ')))
  const of = (word: string) =>
    last.filter(step => step.startsWith(`${word} `)).map(step => step.slice(word.length + 1))
  const array = (texts: readonly string[]): string[] => JSON.parse(texts.at(-1) ?? '[]')
  return {
    steps,
    base: /^ARG NODE_IMAGE=(\S+)$/m.exec(text)?.[1] ?? '',
    copies: of('COPY')
      .filter(copy => !copy.startsWith('--from'))
      .map(copy => {
        const words = copy.split(' ')
        return { sources: words.slice(0, -1), target: words.at(-1) as string }
      }),
    env: Object.fromEntries(
      of('ENV').flatMap(line => line.split(' ').map(pair => pair.split('=') as [string, string])),
    ),
    user: of('USER').at(-1) ?? '',
    ports: of('EXPOSE').flatMap(line => line.split(' ').map(Number)),
    entrypoint: array(of('ENTRYPOINT')),
    command: array(of('CMD')),
    healthcheck: array(of('HEALTHCHECK').map(line => line.slice(line.indexOf(' CMD ') + 5))),
    warmed: of('RUN').flatMap(run => /for main in (.+?); do/.exec(run)?.[1]?.split(/\s+/) ?? []),
  }
}

/** The files below `root` that a build sees, by the form of `.dockerignore` that we use: `*`, then `!path`, then globs. */
export function filesOfContext(root: string, ignore: string): string[] {
  const lines = ignore.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  const kept = lines.filter(line => line.startsWith('!')).map(line => line.slice(1))
  const left = lines.filter(line => line.startsWith('**/'))
  if (lines.length !== kept.length + left.length + 1 || lines[0] !== '*') {
    throw new Error('.dockerignore has a form that this does not read')
  }
  return kept
    .flatMap(path =>
      statSync(join(root, path)).isDirectory() ? globSync(`${path}/**`, { cwd: root }) : [path],
    )
    .filter(path => statSync(join(root, path)).isFile())
    .filter(path => !left.some(glob => matchesGlob(path, glob)))
}
