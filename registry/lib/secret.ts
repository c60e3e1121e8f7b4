import { inspect } from 'node:util'

/**
 * A secret that does not show: neither JSON, nor a template string, nor util.inspect, nor an error
 * dump prints it. Only `reveal()` does, at the one place where it is used.
 */
export class Secret {
  readonly #value: string

  constructor(value: string) {
    this.#value = value
  }

  reveal(): string {
    return this.#value
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}
