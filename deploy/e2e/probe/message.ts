/** The parts that most probes are made of. Placeholders: see Probe. */
export const get = (...fields: string[]) => head('GET $T HTTP/1.1', '$H', ...fields)

export const request = (line: string, ...fields: string[]) => head(line, '$H', ...fields)

/** POST with a body behind its fields, whatever they say about it. */
export const post = (body: string, ...fields: string[]) =>
  head('POST $T HTTP/1.1', '$H', ...fields) + body

export const chunked = (body: string, ...fields: string[]) =>
  post(body, 'Transfer-Encoding: chunked', ...fields)

export const HELLO = 'Content-Length: 5'

export function head(...lines: string[]): string {
  return `${lines.join('\r\n')}\r\n\r\n`
}
