import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A request as it went over the wire, which a thief on the way would hold. */
export interface Captured {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string>>
}

/** Stands between gateway and app and sees every byte of it. */
export interface Recorder {
  readonly origin: string
  /** The heads that passed, oldest first. */
  readonly seen: readonly Captured[]
  /** While true requests are seen and never reach the app: the thief has them first. */
  isStealing: boolean
  close(): void
}

const HEAD = /^([A-Z]+) (\S+) HTTP\/1\.1\r\n((?:[^\r\n]+\r\n)+)\r\n/

export async function startRecorder(appPort: number): Promise<Recorder> {
  const seen: Captured[] = []
  const sockets = new Set<Socket>()
  const server = createServer(client => {
    const upstream = connect(appPort, '127.0.0.1')
    const pair = [client, upstream]
    const close = () => {
      for (const socket of pair) socket.destroy()
    }
    for (const socket of pair) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        sockets.delete(socket)
        close()
      })
    }
    client.on('data', chunk => {
      const captured = capture(chunk.toString('latin1'))
      // The gateway's active checks carry nothing to steal.
      const isCheck = captured?.target === '/readyz'
      if (captured !== null && !isCheck) seen.push(captured)
      if (recorder.isStealing && !isCheck) close()
      else upstream.write(chunk)
    })
    upstream.on('data', chunk => client.write(chunk))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const recorder: Recorder = {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    isStealing: false,
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
  return recorder
}

/** The gateway writes a head in one piece, and the tests send no body that looks like one. */
function capture(text: string): Captured | null {
  const head = HEAD.exec(text)
  if (head === null) return null
  const [, method = '', target = '', lines = ''] = head
  const fields = lines
    .trimEnd()
    .split('\r\n')
    .map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.replace(/^[^:]+: ?/, '')])
  return { method, target, headers: Object.fromEntries(fields) as Record<string, string> }
}
