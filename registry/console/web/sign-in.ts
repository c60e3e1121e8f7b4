import { useState } from 'preact/hooks'
import { ApiError, call } from './lib/api.ts'
import { h, html, type View } from './lib/html.ts'
import type { Holder } from './lib/session.ts'
import { Field } from './ui/field.ts'

/** The key goes to the gateway once and is kept nowhere: the browser gets a cookie that no script can read. */
export function SignIn({ note, onDone }: { note: string; onDone: (holder: Holder) => void }): View {
  const [key, setKey] = useState('')
  const [problem, setProblem] = useState<string | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  const onSubmit = async (event: Event) => {
    event.preventDefault()
    if (isBusy) return
    setIsBusy(true)
    setProblem(null)
    try {
      const { result } = await call<Holder>('/session', {
        method: 'POST',
        body: { key: key.trim() },
      })
      setKey('')
      onDone(result)
    } catch (error) {
      setProblem(textOf(error))
      setIsBusy(false)
    }
  }
  return html`<main class="sign-in" id="main">
    <form onSubmit=${onSubmit}>
      <h1>Doorman</h1>
      <p class="hint">${note}</p>
      ${h(Field, {
        label: 'Admin key',
        name: 'key',
        type: 'password',
        value: key,
        onInput: setKey,
        isRequired: true,
        isFocused: true,
        isMono: true,
        charsMax: 1024,
        error: problem,
      })}
      <button type="submit" class="primary" disabled=${isBusy}>${isBusy ? 'Signing in…' : 'Sign in'}</button>
    </form>
  </main>`
}

function textOf(error: unknown): string {
  if (!(error instanceof ApiError)) return 'It failed.'
  if (error.code === 'ADMIN_KEY_INVALID') return 'The gateway does not know this key.'
  return error.message
}
