import { Socket } from 'node:net'
import { SecureSocket } from './secure-socket.ts'

/**
 * The socket of a client connection, which reads into `buffer` where it can.
 *
 * @param source the handle of an accepted connection that nothing reads from yet, or a paused socket
 * (TLS, or what came behind a PROXY header), which is read as a stream
 * @param onRead bytes that are good until it returns
 */
export function openSocket(
  source: unknown,
  buffer: Buffer,
  onRead: (n: number, bytes: Buffer) => void,
): Socket {
  if (source instanceof Socket) {
    source.on('data', bytes => onRead(bytes.length, bytes))
    return source.resume()
  }
  return new Socket({
    handle: source as never,
    allowHalfOpen: true,
    onread: {
      buffer,
      callback: (n, bytes) => {
        onRead(n, bytes as Buffer)
        return true
      },
    },
  })
}

/** A write of no bytes sends nothing, and fails once a reset has come. */
export function probeSocket(socket: Socket): void {
  if (socket instanceof SecureSocket) socket.probe()
  else socket.write('', 'latin1')
}
