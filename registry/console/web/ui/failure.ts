import type { ApiError } from '../lib/api.ts'
import { html, type View } from '../lib/html.ts'

/** Why something failed, with what is needed to find it in the log. */
export function Failure({ error, onRetry }: { error: ApiError; onRetry?: () => void }): View {
  return html`<div class="failure" role="alert">
    <p>${error.message}</p>
    <p class="hint">
      ${error.code}${error.requestId === null ? null : html` · request <code>${error.requestId}</code>`}
    </p>
    ${onRetry === undefined ? null : html`<button type="button" onClick=${onRetry}>Try again</button>`}
  </div>`
}
