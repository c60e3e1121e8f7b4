import { CliFailure, EXIT } from './failure.ts'

/** What `--limits` holds; a schema looks at it afterwards. @throws CliFailure usage */
export function readLimits(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new CliFailure(EXIT.usage, '--limits: not JSON, such as {"requests_per_s":100}')
  }
}
