declare module '@20minutes/s3rver' {
  import type { IncomingMessage } from 'node:http'
  import type { AddressInfo } from 'node:net'
  import type { Readable } from 'node:stream'

  interface Context {
    readonly request: { readonly req: IncomingMessage }
    req: Readable
    status: number
    type: string
    body: unknown
  }

  interface Store {
    putContent(path: string, content: Buffer | Readable): Promise<[number, string]>
    putObject(object: { metadata: Record<string, string> }): Promise<unknown>
  }

  /** A Koa application. The part that s3-server.ts uses. */
  export default class S3rver {
    constructor(options: {
      address: string
      port: number
      silent: boolean
      directory: string
      vhostBuckets: boolean
      configureBuckets: { name: string }[]
    })
    readonly store: Store
    readonly middleware: ((ctx: Context, next: () => Promise<void>) => Promise<void>)[]
    readonly httpServer: import('node:http').Server
    run(): Promise<AddressInfo>
    on(event: 'error', listener: (error: Error) => void): this
  }
}
