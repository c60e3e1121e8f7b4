import { type ChildProcess, spawn } from 'node:child_process'

export interface GuardOptions {
  /** Asks the process to end; the second signal comes 3 s later and must end it. */
  readonly signals: readonly [first: 'INT' | 'TERM', second: 'QUIT' | 'KILL']
  /** Its first line must still name the process, or nothing is sent to it. */
  readonly pidFile?: string
  /** A folder to remove after the process. */
  readonly doomed?: string
}

/**
 * A shell that waits for the end of its standard input, which comes when this process ends in
 * whatever way (SIGKILL included), and then ends `child`: no orphan holds a port or the data. It
 * goes when the child goes, so that it never signals a stranger who got the child's number.
 */
export function guard(child: ChildProcess, options: GuardOptions): ChildProcess {
  const { signals, pidFile = '', doomed = '' } = options
  const args = ['-c', SCRIPT, 'sh', String(child.pid), ...signals, pidFile, doomed]
  const watchdog = spawn('/bin/sh', args, {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watchdog.on('error', () => child.kill(`SIG${signals[1]}`))
  watchdog.stdin.on('error', () => {})
  ;(watchdog.stdin as unknown as { unref(): void }).unref()
  watchdog.unref()
  child.on('exit', () => watchdog.kill('SIGKILL'))
  return watchdog
}

const SCRIPT = `
  trap '' INT TERM HUP
  read -r _
  is_up() {
    kill -0 "$1" 2>/dev/null || return 1
    [ -z "$2" ] || [ "$(head -n 1 "$2" 2>/dev/null)" = "$1" ]
  }
  is_up "$1" "$4" && kill -"$2" "$1"
  for _ in 1 2 3 4 5 6 7 8 9 10; do is_up "$1" "$4" || break; sleep 0.3; done
  is_up "$1" "$4" && kill -"$3" "$1"
  if [ -n "$5" ]; then sleep 0.2; rm -rf -- "$5"; fi`
