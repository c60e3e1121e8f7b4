import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { ApiError, call, whenSignedOut } from './lib/api.ts'
import { h, html, type View } from './lib/html.ts'
import { Router } from './lib/route.ts'
import { type Holder, HolderContext } from './lib/session.ts'
import { Shell } from './shell.ts'
import { SignIn } from './sign-in.ts'

const root = document.getElementById('app')
if (root !== null) render(h(Console, {}), root)

const SIGN_IN = 'Sign in to look after tenants and the fleet.'
const ENDED = 'Your session has ended. Sign in again to go on where you were.'
const OUT = 'You are signed out.'

type Door =
  | { readonly is: 'unknown' }
  | { readonly is: 'open'; readonly holder: Holder }
  | { readonly is: 'closed'; readonly note: string }

/** Nothing is shown, and nothing asked for, before there is a session. */
function Console(): View {
  const [door, setDoor] = useState<Door>({ is: 'unknown' })
  useEffect(() => {
    call<Holder | null>('/session').then(
      ({ result }) =>
        setDoor(result === null ? { is: 'closed', note: SIGN_IN } : { is: 'open', holder: result }),
      error => setDoor({ is: 'closed', note: noteOf(error) }),
    )
    whenSignedOut(() => setDoor(now => (now.is === 'open' ? { is: 'closed', note: ENDED } : now)))
  }, [])
  if (door.is === 'unknown') return html`<main class="sign-in" id="main" aria-busy="true"></main>`
  if (door.is === 'closed') {
    return h(SignIn, { note: door.note, onDone: holder => setDoor({ is: 'open', holder }) })
  }
  const onSignOut = () => setDoor({ is: 'closed', note: OUT })
  return h(HolderContext.Provider, {
    value: door.holder,
    children: h(Router, { children: h(Shell, { onSignOut }) }),
  })
}

function noteOf(error: unknown): string {
  if (!(error instanceof ApiError) || error.status === 401) return SIGN_IN
  return `${error.message} (${error.code})`
}
