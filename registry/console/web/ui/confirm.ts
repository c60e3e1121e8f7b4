import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError } from '../lib/api.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { Dialog } from './dialog.ts'
import { Failure } from './failure.ts'

export interface ConfirmProps {
  readonly title: string
  /** What comes of it. */
  readonly children: ComponentChildren
  /** On its button. */
  readonly verb: string
  readonly isDangerous?: boolean
  /** Does it, and says what came of it. */
  readonly run: () => Promise<string>
  readonly onClose: () => void
}

/** Says what will be, and does it when told so once more; a refusal stays to be read. */
export function Confirm(props: ConfirmProps): View {
  const { title, children, verb, isDangerous = false, run, onClose } = props
  const [error, setError] = useState<ApiError | null>(null)
  const [isBusy, setIsBusy] = useState(false)
  const onSubmit = async (event: Event) => {
    event.preventDefault()
    if (isBusy) return
    setIsBusy(true)
    setError(null)
    try {
      notify(await run())
      onClose()
    } catch (failure) {
      setError(failure instanceof ApiError ? failure : new ApiError('It failed.', 0, 'UNKNOWN'))
      setIsBusy(false)
    }
  }
  return h(Dialog, {
    title,
    onClose,
    children: html`<form onSubmit=${onSubmit}>
      <p>${children}</p>
      ${error === null ? null : h(Failure, { error })}
      <div class="buttons">
        <button type="button" onClick=${onClose}>Back</button>
        <button type="submit" class=${isDangerous ? 'primary danger' : 'primary'} disabled=${isBusy}>
          ${isBusy ? 'One moment…' : verb}
        </button>
      </div>
    </form>`,
  })
}
