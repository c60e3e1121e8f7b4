import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { CliFailure, EXIT } from './failure.ts'

/** What is read from a pipe for one command, in bytes; a batch line likewise. */
const INPUT_BYTES_MAX = 64 * 1024

type Input = NodeJS.ReadableStream & { readonly isTTY?: boolean }

/**
 * One secret per label: asked for without echo on a terminal, else one line each from standard input in
 * the order of the labels. Never from arguments, which every user of the machine can see.
 */
export async function readSecrets(
  labels: readonly string[],
  input: Input,
  output: NodeJS.WritableStream,
): Promise<readonly string[]> {
  const secrets = input.isTTY
    ? await askHidden(labels, input, output)
    : await readFirstLines(labels.length, input)
  for (const [i, label] of labels.entries()) {
    if (!secrets[i]) {
      throw new CliFailure(
        EXIT.usage,
        `${label} is missing (one line on standard input for: ${labels.join(', ')})`,
      )
    }
  }
  return secrets
}

/** A line typed on a terminal, shown as it is typed. */
export async function askLine(
  question: string,
  input: Input,
  output: NodeJS.WritableStream,
): Promise<string> {
  const lines = createInterface({ input, output, terminal: true })
  try {
    return (await nextLine(lines, question)).trim()
  } finally {
    lines.close()
  }
}

/** The JSON values of standard input, one per line; blank lines are left out. */
export async function* readJsonLines(
  input: Input,
): AsyncGenerator<{ line: number; value: unknown }, void, undefined> {
  let number = 0
  for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1
    if (text.trim() === '') continue
    if (text.length > INPUT_BYTES_MAX) throw new CliFailure(EXIT.usage, `line ${number}: too long`)
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      // The parser's message quotes the text, which holds secrets.
      throw new CliFailure(EXIT.usage, `line ${number}: not JSON`)
    }
    yield { line: number, value }
  }
}

async function readFirstLines(count: number, input: Input): Promise<readonly string[]> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of input) {
    const bytes = Buffer.from(chunk)
    size += bytes.length
    if (size > INPUT_BYTES_MAX) throw new CliFailure(EXIT.usage, 'standard input is too long')
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString('utf8').split(/\r?\n/).slice(0, count)
}

async function askHidden(
  labels: readonly string[],
  input: Input,
  output: NodeJS.WritableStream,
): Promise<readonly string[]> {
  const muted = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input, output: muted, terminal: true })
  try {
    const secrets = []
    for (const label of labels) {
      output.write(`${label}: `)
      secrets.push(await nextLine(lines))
      output.write('\n')
    }
    return secrets
  } finally {
    lines.close()
  }
}

function nextLine(lines: ReturnType<typeof createInterface>, question = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new CliFailure(EXIT.failure, 'stopped'))
    lines.once('SIGINT', stop)
    lines.once('close', stop)
    lines.question(question, answer => {
      lines.off('SIGINT', stop)
      lines.off('close', stop)
      resolve(answer)
    })
  })
}
