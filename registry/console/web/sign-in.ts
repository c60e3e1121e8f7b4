import { useId, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { ApiError, call } from './lib/api.ts'
import { h, html, type View } from './lib/html.ts'
import type { Holder } from './lib/session.ts'
import { Field } from './ui/field.ts'

export interface SignInProps {
  readonly note: string
  readonly onDone: (holder: Holder) => void
}

/** Before there is anything else. */
export function SignIn(props: SignInProps): View {
  const page = useRef<HTMLElement>(null)
  useLayoutEffect(() => {
    // A browser heeds `autofocus` once for a page, and this may be after signing out.
    page.current?.querySelector('input')?.focus()
  }, [])
  return html`<main ref=${page} class="sign-in" id="main">${h(Form, { ...props, titleId: useId() })}</main>`
}

/**
 * Over a page whose session has ended. It hides all of it, for nobody knows who looks now, and takes nothing away: the
 * operator goes on in the form that was open. Nothing closes it but a key.
 */
export function SignInOver(props: SignInProps): View {
  const dialog = useRef<HTMLDialogElement>(null)
  const titleId = useId()
  useLayoutEffect(() => {
    const before = document.activeElement
    dialog.current?.showModal()
    return () => {
      dialog.current?.close()
      if (before instanceof HTMLElement && before.isConnected) before.focus()
    }
  }, [])
  return html`<dialog
    ref=${dialog}
    class="sign-in"
    aria-labelledby=${titleId}
    closedby="none"
    onCancel=${(event: Event) => event.preventDefault()}
    onClose=${() => dialog.current?.showModal()}
  >${h(Form, { ...props, titleId })}</dialog>`
}

/** The key goes to the gateway once and is kept nowhere: the browser gets a cookie that no script can read. */
function Form({ note, onDone, titleId }: SignInProps & { titleId: string }): View {
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
  return html`<form onSubmit=${onSubmit}>
    <h1 id=${titleId}>Doorman</h1>
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
  </form>`
}

function textOf(error: unknown): string {
  if (!(error instanceof ApiError)) return 'It failed.'
  if (error.code === 'ADMIN_KEY_INVALID') return 'The gateway does not know this key.'
  return error.message
}
