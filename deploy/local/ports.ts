import { createServer } from 'node:net'

/** A TCP port of `host` that is free now. Another process may take it first: callers retry on a clash. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const port = await tryListen(0, host)
  if (port === null) throw new Error(`No free TCP port on ${host}`)
  return port
}

/** `preferred` where nothing listens on it, else a free port. */
export async function preferredPort(preferred: number, host = '127.0.0.1'): Promise<number> {
  return (await tryListen(preferred, host)) ?? freePort(host)
}

/** Listens for a moment: the port it got, or null where the port is taken or not allowed. */
function tryListen(port: number, host: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(null)
      else reject(error)
    })
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address()
      const got = typeof address === 'object' && address !== null ? address.port : null
      server.close(() => resolve(got))
    })
  })
}
