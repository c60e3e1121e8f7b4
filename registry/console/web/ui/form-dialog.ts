import type { ComponentChildren } from 'preact'
import { type Form, useForm, useSaving } from '../lib/form.ts'
import { h, html, type View } from '../lib/html.ts'
import { notify } from '../lib/notice.ts'
import { Dialog } from './dialog.ts'
import { Failure } from './failure.ts'

export interface FormDialogProps {
  readonly title: string
  readonly form: Form
  /** What comes of it, and its fields. */
  readonly children: ComponentChildren
  /** On its button, and meanwhile. */
  readonly verb: string
  readonly busy?: string
  /** On the button that leaves it. */
  readonly leave?: string
  readonly onLeave?: () => void
  readonly isWide?: boolean
  /** Only its own buttons close it. */
  readonly isHeld?: boolean
  readonly isDangerous?: boolean
  readonly isDisabled?: boolean
  /** Does it, and says what came of it; null: it goes on, and the dialog stays. */
  readonly run: () => Promise<string | null>
  readonly onClose: () => void
}

/** Asks, and does it; a refusal stays to be read, at its field where it has one. */
export function FormDialog(props: FormDialogProps): View {
  const { title, form, verb, busy = 'One moment…', leave = 'Cancel', onClose } = props
  const {
    isWide = false,
    isHeld = false,
    isDangerous = false,
    isDisabled = false,
    onLeave = onClose,
  } = props
  const saving = useSaving(form)
  const onSubmit = (event: Event) => {
    event.preventDefault()
    if (isDisabled) return
    void saving.run(async () => {
      const said = await props.run()
      if (said === null) return
      notify(said)
      onClose()
    })
  }
  return h(Dialog, {
    ...{ title, isWide, isHeld, onClose },
    children: html`<form onSubmit=${onSubmit}>
      ${form.error === null ? null : h(Failure, { error: form.error })}
      ${props.children}
      <div class="buttons">
        <button type="button" onClick=${onLeave}>${leave}</button>
        <button type="submit" class=${isDangerous ? 'primary danger' : 'primary'} disabled=${saving.isBusy || isDisabled}>
          ${saving.isBusy ? busy : verb}
        </button>
      </div>
    </form>`,
  })
}

export interface ConfirmProps {
  readonly title: string
  /** What comes of it. */
  readonly children: ComponentChildren
  readonly verb: string
  readonly isDangerous?: boolean
  readonly run: () => Promise<string>
  readonly onClose: () => void
}

/** Says what will be, and does it when told so once more. */
export function Confirm({ children, ...rest }: ConfirmProps): View {
  const form = useForm({})
  return h(FormDialog, { ...rest, form, leave: 'Back', children: html`<p>${children}</p>` })
}
