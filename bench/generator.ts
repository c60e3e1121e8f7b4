import { fileURLToPath } from 'node:url'
import { type Child, startChild } from './lib/child.ts'
import type { Command, Job, LoadResult, Numbered, Report } from './load/job.ts'

const MAIN = fileURLToPath(new URL('./load/main.ts', import.meta.url))
/** Beyond the job's own seconds: rendering 100,000 tokens, opening 10,000 connections. */
const SLACK_MS = 60_000

/** The load generator's process, seen from the parent. */
export class Generator {
  readonly #child: Child
  #lastId = 0

  private constructor(child: Child) {
    this.#child = child
  }

  static async start(worldFile: string, prefix: readonly string[]): Promise<Generator> {
    const command = [process.execPath, '--max-semi-space-size=32', MAIN, worldFile]
    return new Generator(await startChild(command, { prefix, hasIpc: true }))
  }

  get pid(): number {
    return this.#child.pid
  }

  /** Requests are rendered and connections open when it resolves. */
  async prepare(job: Job): Promise<void> {
    await this.#ask({ type: 'prepare', job }, SLACK_MS)
  }

  async go(seconds: number): Promise<LoadResult> {
    const report = await this.#ask({ type: 'go' }, SLACK_MS + seconds * 1000)
    if (report.type !== 'done') throw new Error('the load generator lost its place')
    return report.result
  }

  /** Closes what the idle scenario, or a flood, holds open. */
  async release(): Promise<void> {
    await this.#ask({ type: 'release' }, SLACK_MS)
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }

  #ask(command: Command, deadlineMs: number): Promise<Report> {
    const { process: child } = this.#child
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const settle = (outcome: () => void) => {
        clearTimeout(deadline)
        child.off('message', onMessage)
        child.off('exit', onExit)
        outcome()
      }
      const fail = (message: string) => settle(() => reject(new Error(message)))
      const onMessage = ({ id: answered, body }: Numbered<Report>) => {
        if (answered !== id) return
        if (body.type === 'failed') fail(body.message)
        else settle(() => resolve(body))
      }
      const onExit = () => fail(`the load generator ended: ${this.#child.output()}`)
      const deadline = setTimeout(() => fail(`no end of ${command.type} in time`), deadlineMs)
      child.on('message', onMessage)
      child.on('exit', onExit)
      child.send({ id, body: command } satisfies Numbered<Command>)
    })
  }
}
