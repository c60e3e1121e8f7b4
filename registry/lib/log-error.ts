/** Causes that are told; a chain may be a ring. */
const CAUSES_MAX = 5

/**
 * What a log line tells of an error: its kind, code, text, stack and causes, and nothing else. What libraries
 * hang on their errors holds secrets: node-postgres the client with its password, and the row in `detail`;
 * the AWS SDK the answer that repeats the access key and the string it signed; Node's HTTP parser the raw
 * bytes of the request.
 */
export function errorForLog(error: unknown, causesMax = CAUSES_MAX): unknown {
  // A thrown text or object says nothing that can be trusted to be no secret.
  if (!(error instanceof Error)) return { type: typeof error }
  const { name, message, stack, code, cause } = error as Error & { readonly code?: unknown }
  const text = withoutInput(error, message)
  return {
    type: name,
    message: text,
    ...(typeof code === 'string' && { code }),
    stack: stack?.replace(message, () => text),
    ...(cause !== undefined && causesMax > 0 && { cause: errorForLog(cause, causesMax - 1) }),
  }
}

/** The text of an error for a `reason`. */
export function messageForLog(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return withoutInput(error, error.message)
}

/** SQLSTATE class 22, and V8's JSON.parse: their messages quote what they could not read. */
function withoutInput(error: Error, message: string): string {
  const { code } = error as { readonly code?: unknown }
  const isDataException = typeof code === 'string' && /^22[0-9A-Z]{3}$/.test(code)
  if (!isDataException && !(error instanceof SyntaxError)) return message
  const first = message.search(/["']/)
  return first < 0 ? message : `${message.slice(0, first)}…`
}
