import type { Socket } from 'node:net'

/**
 * Cuts a connection so that its peer sees a reset. Node's own `resetAndDestroy` fails with EINVAL where the end
 * of our side was said in the same turn and is on its way: libuv resets no handle that shuts down. Node 24
 * then lets go of the handle without closing it, so that its file descriptor is lost and no 'close'
 * comes. All of the answer is out by then, so such a one is closed in the common way.
 */
export function resetSocket(socket: Socket): void {
  const { writableEnded, writableFinished, writableLength } = socket
  if (writableEnded && !writableFinished && writableLength === 0) socket.destroy()
  else if (!socket.destroyed) socket.resetAndDestroy()
}
