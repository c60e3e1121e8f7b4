import { useTls } from './test-kit.ts'

// All that holds on plain connections, once more: what reads and resets a TLS socket is other code.
useTls()
await import('./server-connection.test.ts')
