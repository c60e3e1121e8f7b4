import { cachesOf, type Gateway } from '../lib/fleet.ts'
import { percent } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Meter } from '../ui/meter.ts'

/** A full cache is no fault: what is used least goes. So none is marked. */
export function FleetCaches({ gateways }: { gateways: readonly Gateway[] }): View {
  const caches = cachesOf(gateways)
  return html`<section aria-labelledby="caches">
    <h2 id="caches">Caches of the gateways</h2>
    ${
      caches.length === 0
        ? html`<p class="card empty">No gateway told.</p>`
        : html`<div class="card table" tabindex="0" role="region" aria-labelledby="caches">
            <table>
              <thead>
                <tr><th scope="col">Cache</th><th scope="col">Entries</th><th scope="col">Fullest</th></tr>
              </thead>
              <tbody>
                ${caches.map(
                  ({ name, size, max, fullest }) => html`<tr key=${name}>
                    <th scope="row">${name}</th>
                    <td>${h(Meter, { used: size, max, isPlain: true })}</td>
                    <td class="hint place">${fullest === null || fullest.share === 0 ? '–' : `${percent(fullest.share)}, ${fullest.name}`}</td>
                  </tr>`,
                )}
              </tbody>
            </table>
          </div>`
    }
  </section>`
}
