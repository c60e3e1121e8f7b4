import type { Log } from '../../registry/lib/log.ts'
import { ANSWER_BYTES_MAX } from '../../registry/live/answers.ts'
import type { Asked, Question } from '../../registry/live/question.ts'

export interface AnswersOptions {
  readonly make: (question: Question) => Promise<unknown>
  readonly write: (questionId: string, answer: string) => Promise<void>
  readonly log: Log
}

/**
 * Questions worked at or waiting; each process that asks puts ten a second at most. Beyond it they are left
 * unanswered: serving tenants comes first.
 */
export const QUESTIONS_MAX = 32
/** Of those, worked at: the replicas of a tenant may take their time to answer. */
const AT_WORK_MAX = 4

/** Answers questions a few at a time, none after its time, and none so that anybody else notices. */
export class Answers {
  readonly #options: AnswersOptions
  readonly #waiting: { asked: Asked; untilMs: number }[] = []
  #atWork = 0
  /** One after the other: the other Registry connections are for tenants. */
  #lastWrite: Promise<void> = Promise.resolve()
  #isFailing = false
  #isClosed = false

  constructor(options: AnswersOptions) {
    this.#options = options
  }

  take(asked: Asked): void {
    if (this.#isClosed || this.#waiting.length + this.#atWork >= QUESTIONS_MAX) return
    this.#waiting.push({ asked, untilMs: performance.now() + asked.restMs })
    void this.#work()
  }

  close(): void {
    this.#isClosed = true
    this.#waiting.length = 0
  }

  /** Never rejects. */
  async #work(): Promise<void> {
    if (this.#atWork >= AT_WORK_MAX) return
    this.#atWork++
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (performance.now() < next.untilMs) await this.#answer(next.asked, next.untilMs)
    }
    this.#atWork--
  }

  async #answer({ id, question }: Asked, untilMs: number): Promise<void> {
    const { make, log } = this.#options
    try {
      const text = JSON.stringify(await make(question))
      if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) {
        return void log.warn({ kind: question.kind, bytes: text.length }, 'an answer is too long')
      }
      const written = this.#lastWrite.then(() => this.#write(id, text, untilMs))
      this.#lastWrite = written.catch(() => {})
      await written
      this.#isFailing = false
    } catch (error) {
      // Once: a console that is open asks again and again.
      if (!this.#isFailing)
        log.warn({ err: error, kind: question.kind }, 'a question was not answered')
      this.#isFailing = true
    }
  }

  async #write(id: string, text: string, untilMs: number): Promise<void> {
    // Who waited for it has gone, and taken away what was there.
    if (this.#isClosed || performance.now() >= untilMs) return
    await this.#options.write(id, text)
  }
}
