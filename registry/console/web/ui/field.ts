import type { ComponentChildren } from 'preact'
import { useId } from 'preact/hooks'
import { html, type View } from '../lib/html.ts'

export interface FieldProps {
  readonly label: string
  readonly value: string
  readonly onInput: (value: string) => void
  readonly name?: string
  readonly type?: 'text' | 'password' | 'number' | 'email' | 'url' | 'search' | 'month'
  readonly hint?: ComponentChildren
  /** What is wrong with it; null: nothing. */
  readonly error?: string | null | undefined
  readonly isRequired?: boolean
  readonly isFocused?: boolean
  readonly lines?: number
  readonly placeholder?: string
  readonly charsMax?: number
  readonly autocomplete?: string
  readonly isMono?: boolean
  readonly options?: readonly (readonly [value: string, label: string])[]
  readonly isDisabled?: boolean
}

/** A labelled input; its error stands at it and is read out with it. */
export function Field(props: FieldProps): View {
  const { label, hint, error = null, isRequired = false } = props
  const id = useId()
  const described = [hint ? `${id}-hint` : '', error === null ? '' : `${id}-error`]
  const common = {
    id,
    name: props.name,
    value: props.value,
    required: isRequired,
    disabled: props.isDisabled === true,
    autofocus: props.isFocused === true,
    maxlength: props.charsMax,
    placeholder: props.placeholder,
    autocomplete: props.autocomplete ?? 'off',
    spellcheck: false,
    class: props.isMono ? 'mono' : undefined,
    'aria-invalid': error === null ? undefined : 'true',
    'aria-describedby': described.filter(Boolean).join(' ') || undefined,
    onInput: (event: Event) => props.onInput((event.currentTarget as HTMLInputElement).value),
  }
  const control =
    props.options !== undefined
      ? html`<select ...${common}>${props.options.map(
          ([value, text]) =>
            html`<option value=${value} selected=${value === props.value}>${text}</option>`,
        )}</select>`
      : props.lines !== undefined
        ? html`<textarea ...${common} rows=${props.lines}></textarea>`
        : html`<input ...${common} type=${props.type ?? 'text'} />`
  return html`<div class=${error === null ? 'field' : 'field wrong'}>
    <label for=${id}>${label}${isRequired ? html`<span class="required" aria-hidden="true"> *</span>` : null}</label>
    ${control}
    ${hint ? html`<p class="hint" id=${`${id}-hint`}>${hint}</p>` : null}
    ${error === null ? null : html`<p class="error" id=${`${id}-error`}>${error}</p>`}
  </div>`
}

export interface CheckProps {
  readonly label: string
  readonly isOn: boolean
  readonly onChange: (isOn: boolean) => void
  readonly hint?: string
}

export function Check({ label, isOn, onChange, hint }: CheckProps): View {
  const id = useId()
  return html`<div class="check">
    <input
      id=${id}
      type="checkbox"
      checked=${isOn}
      aria-describedby=${hint ? `${id}-hint` : undefined}
      onChange=${(event: Event) => onChange((event.currentTarget as HTMLInputElement).checked)}
    />
    <div>
      <label for=${id}>${label}</label>
      ${hint ? html`<p class="hint" id=${`${id}-hint`}>${hint}</p>` : null}
    </div>
  </div>`
}
