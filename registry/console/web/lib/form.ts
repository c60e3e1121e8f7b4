import { useState } from 'preact/hooks'
import { ApiError } from './api.ts'

export type Values = Readonly<Record<string, string>>

export interface Form {
  readonly values: Values
  readonly set: (name: string, value: string) => void
  readonly setAll: (values: Values) => void
  /** Props of the field with this name: its value, and what the last refusal said of it. */
  readonly bind: (name: string) => {
    readonly name: string
    readonly value: string
    readonly onInput: (value: string) => void
    readonly error: string | null
  }
  readonly setError: (error: ApiError | null) => void
  readonly error: ApiError | null
}

/** Texts of a form by their names in the API. */
export function useForm(initial: Values): Form {
  const [values, setAll] = useState<Values>(initial)
  const [error, setError] = useState<ApiError | null>(null)
  /** What was changed since the refusal: it may be right by now. */
  const [mended, setMended] = useState<ReadonlySet<string>>(new Set())
  const set = (name: string, value: string) => {
    setAll(now => ({ ...now, [name]: value }))
    setMended(now => new Set(now).add(name))
  }
  return {
    values,
    set,
    setAll,
    error,
    setError(next) {
      setError(next)
      setMended(new Set())
    },
    bind: name => ({
      name,
      value: values[name] ?? '',
      onInput: value => set(name, value),
      error: mended.has(name) ? null : (error?.fields[name] ?? null),
    }),
  }
}

export interface Saving {
  readonly isBusy: boolean
  /** Does `work`, unless something is being done. */
  readonly run: (work: () => Promise<void>) => Promise<void>
}

/** One thing at a time; a refusal goes to its field, and focus to the first of those. */
export function useSaving(form: Form): Saving {
  const [isBusy, setIsBusy] = useState(false)
  const run = async (work: () => Promise<void>) => {
    if (isBusy) return
    setIsBusy(true)
    form.setError(null)
    try {
      await work()
    } catch (error) {
      form.setError(error instanceof ApiError ? error : new ApiError('It failed.', 0, 'UNKNOWN'))
      focusWrong()
    } finally {
      setIsBusy(false)
    }
  }
  return { isBusy, run }
}

/** A text as the API takes it: empty is null, or left out by whoever asks. */
export function textOrNull(text: string | undefined): string | null {
  const trimmed = text?.trim() ?? ''
  return trimmed === '' ? null : trimmed
}

/** A number as the API takes it; what is none goes as it is, and the API says so at its field. */
export function numberOrNull(text: string | undefined): number | string | null {
  const trimmed = text?.trim() ?? ''
  if (trimmed === '') return null
  return Number.isFinite(Number(trimmed)) ? Number(trimmed) : trimmed
}

/** Where a refusal is to be mended first. */
export function focusWrong(): void {
  requestAnimationFrame(() => {
    // What is behind a dialog cannot be reached.
    const top = [...document.querySelectorAll('dialog[open]')].at(-1) ?? document
    const wrong = top.querySelector<HTMLElement>('[aria-invalid=true]')
    if (wrong === null) top.querySelector('.failure')?.scrollIntoView({ block: 'nearest' })
    else wrong.focus()
  })
}

/** Of a request that is to be done once. crypto.randomUUID() is there over TLS and on this machine only. */
export function newKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map(byte => byte.toString(16).padStart(2, '0'))
    .join('')
}
