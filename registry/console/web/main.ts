import { render } from 'preact'
import { useEffect, useLayoutEffect, useState } from 'preact/hooks'
import { ApiError, call, sessionBegan, whenSignedOut } from './lib/api.ts'
import { h, html, type View } from './lib/html.ts'
import { Router } from './lib/route.ts'
import { type Holder, HolderContext } from './lib/session.ts'
import { Shell } from './shell.ts'
import { SignIn, SignInOver } from './sign-in.ts'

const root = document.getElementById('app')
if (root !== null) render(h(Console, {}), root)

const SIGN_IN = 'Sign in to look after tenants and the fleet.'
const ENDED = 'Your session has ended. Sign in again to go on where you were.'
const OUT = 'You are signed out.'
const GONE = 'Your session has ended a while ago. Sign in again to go on.'
/** Nobody comes back to a form after so long, and it may hold what is not for whoever finds the machine. */
const HELD_MS = 3_600_000

type Door =
  | { readonly is: 'unknown' }
  /** `isEnded`: the page stays beneath the form that asks for the key, with all that was typed. */
  | { readonly is: 'open'; readonly holder: Holder; readonly isEnded: boolean }
  | { readonly is: 'closed'; readonly note: string }

/** Nothing is shown, and nothing asked for, before there is a session. */
function Console(): View {
  const [door, setDoor] = useState<Door>({ is: 'unknown' })
  const open = (holder: Holder) => {
    sessionBegan()
    setDoor({ is: 'open', holder, isEnded: false })
  }
  useEffect(() => {
    call<Holder | null>('/session').then(
      ({ result }) => (result === null ? setDoor({ is: 'closed', note: SIGN_IN }) : open(result)),
      error => setDoor({ is: 'closed', note: noteOf(error) }),
    )
    whenSignedOut(() => setDoor(now => (now.is === 'open' ? { ...now, isEnded: true } : now)))
  }, [])
  const isEnded = door.is === 'open' && door.isEnded
  // From the moment that the form stands there, and not after the next paint: a hidden page has none.
  useLayoutEffect(() => {
    if (!isEnded) return
    const timer = setTimeout(() => setDoor({ is: 'closed', note: GONE }), HELD_MS)
    return () => clearTimeout(timer)
  }, [isEnded])
  if (door.is === 'unknown') return html`<main class="sign-in" id="main" aria-busy="true"></main>`
  if (door.is === 'closed') return h(SignIn, { note: door.note, onDone: open })
  const { holder } = door
  const onSignOut = () => setDoor({ is: 'closed', note: OUT })
  return html`
    ${h(HolderContext.Provider, {
      // What one has typed is not for the next one.
      key: `${holder.name} ${holder.scope}`,
      value: holder,
      children: h(Router, { children: h(Shell, { onSignOut }) }),
    })}
    ${isEnded ? h(SignInOver, { note: ENDED, onDone: open }) : null}
  `
}

function noteOf(error: unknown): string {
  if (!(error instanceof ApiError) || error.status === 401) return SIGN_IN
  return `${error.message} (${error.code})`
}
