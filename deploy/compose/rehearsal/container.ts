import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { type Finished, run } from '../../local/run.ts'

/** A file or folder of ours by its place in the container. */
export interface Mount {
  readonly source: string
  readonly target: string
  readonly isWritable?: boolean
}

export interface ContainerOptions {
  /** An empty folder for what it needs to be made of. */
  readonly folder: string
  readonly mounts: readonly Mount[]
  /** Its whole environment. */
  readonly env: Readonly<Record<string, string>>
  readonly command: readonly string[]
  /** Where it runs: of the image. */
  readonly workdir: string
  /** `uid:gid`: of the image. */
  readonly user: string
  /** Whom it asks for the addresses of names. */
  readonly nameserver: string
  /** Connects the namespace of a process before anything runs in it. */
  readonly connect: (pid: number) => Promise<() => void>
  readonly input?: string
}

export interface Container {
  /** Its lines so far, of both streams. */
  readonly lines: readonly string[]
  /** Text of a stream so far. */
  text(stream: 'out' | 'err'): string
  readonly exited: Promise<number | null>
  /** Runs a command beside its own, as its health check does. */
  exec(command: readonly string[], deadlineMs: number): Promise<Finished>
  /** SIGTERM, and SIGKILL past the deadline. */
  stop(deadlineMs: number): Promise<number | null>
}

const STARTED_MS = 10_000

/**
 * A process as a container runtime starts it: namespaces of its own for network, mounts, processes and names, a root
 * that it cannot write to and that holds only what `mounts` name beside the machine's own programs, no right of
 * root, and no way to get one. It ends with this process.
 */
export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { folder, env, command, workdir, user } = options
  const [uid = '', gid = ''] = user.split(':')
  const root = join(folder, 'root')
  mkdirSync(root)
  const etc = join(folder, 'etc')
  mkdirSync(etc)
  const files = etcFiles(options.nameserver, uid, gid)
  for (const [name, text] of Object.entries(files)) writeFileSync(join(etc, name), text)
  const program = ['env', '-i', ...pairs(env), ...withoutRights(uid, gid), ...command]
  const child = spawn(
    'unshare',
    [
      ...['--net', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--'],
      ...['sh', '-c', script(root, etc, workdir, options.mounts), 'sh', ...program],
    ],
    { stdio: ['pipe', 'pipe', 'pipe', 'pipe'], env: { PATH: process.env.PATH } },
  )
  const gate = child.stdio[3] as NodeJS.WritableStream
  for (const stream of [child.stdin, gate]) stream?.on('error', () => {})
  const lines: string[] = []
  const texts = { out: '', err: '' }
  child.stdout?.on('data', chunk => {
    texts.out += chunk
  })
  child.stderr?.on('data', chunk => {
    texts.err += chunk
  })
  for (const stream of [child.stdout, child.stderr] as Readable[]) {
    createInterface({ input: stream }).on('line', line => lines.push(line))
  }
  const exited = new Promise<number | null>(resolve => {
    child.on('error', () => resolve(null))
    child.on('close', code => resolve(code))
  })
  await untilApart(child)
  const disconnect = await options.connect(child.pid as number)
  void exited.then(disconnect)
  child.stdin?.end(options.input ?? '')
  gate.end('go\n')
  return {
    lines,
    text: stream => texts[stream],
    exited,
    exec: (beside, deadlineMs) => {
      const enter = ['-t', String(firstOf(child)), '-m', '-n', '-p', '-u', '-i', '-r', '-w', '--']
      const words = ['env', '-i', ...pairs(env), ...withoutRights(uid, gid), ...beside]
      return run('nsenter', [...enter, ...words], deadlineMs)
    },
    async stop(deadlineMs) {
      const first = firstOf(child)
      if (first !== null) process.kill(first, 'SIGTERM')
      const late = AbortSignal.timeout(deadlineMs)
      await Promise.race([exited, once(late, 'abort')])
      child.kill('SIGKILL')
      return exited
    },
  }
}

/** What a program of an image may do: nothing beyond what any account may. */
function withoutRights(uid: string, gid: string): string[] {
  const account = [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups']
  return ['setpriv', ...account, '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', '--']
}

function pairs(env: Readonly<Record<string, string>>): string[] {
  return Object.entries(env).map(([name, value]) => `${name}=${value}`)
}

/** The process that is number 1 within; null before and after. */
function firstOf({ pid }: ChildProcess): number | null {
  try {
    const [first] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
    return Number(first) || null
  } catch {
    return null
  }
}

async function untilApart({ pid }: ChildProcess): Promise<void> {
  const deadline = Date.now() + STARTED_MS
  const netOf = (name: string | number | undefined) => readlinkSync(`/proc/${name}/ns/net`)
  while (netOf(pid) === netOf('self')) {
    if (Date.now() > deadline) throw new Error('no namespaces are made')
    await delay(5)
  }
}

function etcFiles(nameserver: string, uid: string, gid: string): Record<string, string> {
  return {
    'resolv.conf': `nameserver ${nameserver}\noptions timeout:2 attempts:3\n`,
    'nsswitch.conf': 'hosts: files dns\n',
    hosts: '127.0.0.1 localhost\n',
    passwd: `node:x:${uid}:${gid}::/:/bin/sh\n`,
    group: `node:x:${gid}:\n`,
  }
}

function script(root: string, etc: string, workdir: string, mounts: readonly Mount[]): string {
  const bind = ({ source, target, isWritable }: Mount) =>
    `bind '${source}' '${root}${target}' ${isWritable ? 'rw' : 'ro'}`
  return `
    set -eu
    read -r _ <&3; exec 3<&-
    bind() {
      if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "\${2%/*}"; [ -e "$2" ] || : >"$2"; fi
      mount --bind "$1" "$2"; [ "$3" = rw ] || mount -o "remount,bind,ro" "$2"
    }
    mount -t tmpfs -o mode=755 tmpfs '${root}'
    for name in usr bin sbin lib lib64; do
      if [ -L "/$name" ]; then cp -P "/$name" '${root}/'; elif [ -d "/$name" ]; then bind "/$name" "${root}/$name" ro; fi
    done
    mkdir '${root}/proc' '${root}/dev' '${root}/tmp'
    mount -t proc proc '${root}/proc'; mount --rbind /dev '${root}/dev'
    cp -r '${etc}' '${root}/etc'
    ${mounts.map(bind).join('\n    ')}
    mount -o remount,ro '${root}'
    exec chroot '${root}' sh -c 'cd "$1" && shift && exec "$@"' sh '${workdir}' "$@"`
}
