import { html, type View } from '../lib/html.ts'

const TONES: Readonly<Record<string, string>> = {
  active: 'ok',
  provisioning: 'info',
  maintenance: 'warn',
  suspended: 'bad',
  archived: 'off',
}

/** A word and a colour: never the colour alone. */
export function Badge({ text, tone = 'off' }: { text: string; tone?: string }): View {
  return html`<span class=${`badge ${tone}`}>${text}</span>`
}

export function StatusBadge({ status }: { status: string }): View {
  return html`<span class=${`badge ${TONES[status] ?? 'off'}`}>${status}</span>`
}
