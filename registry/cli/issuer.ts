import { z } from 'zod'
import { parseIssuer } from '../tenant.ts'
import { writeIssuer } from '../tenant-write.ts'
import { readInput } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface IssuerFlags {
  readonly issuer?: string
  readonly jwksUrl?: string
  readonly audience?: string
  readonly none?: boolean
}

const issuerInput = z.strictObject({
  issuer: z.string().transform((text, context) => {
    const issuer = parseIssuer(text)
    if (issuer !== null) return issuer
    context.addIssue('must be 1 to 255 printable ASCII characters without blanks')
    return z.NEVER
  }),
  jwks_url: z
    .string()
    .max(2048)
    .regex(/^https?:\/\/[\x21-\x7e]+$/, 'must be an http(s) URL')
    .refine(text => {
      const url = URL.parse(text)
      return url !== null && url.username === '' && url.password === '' && url.hash === ''
    }, 'must be a URL without user name and fragment'),
  audience: z.string().regex(/^[\x21-\x7e]{1,255}$/, 'must be 1 to 255 printable characters'),
})

/** Gives a tenant an identity provider of its own, in place of the one it had; `none` takes it away. */
export async function setIssuer(
  session: Session,
  name: string,
  flags: IssuerFlags,
  { output }: Streams,
): Promise<ExitCode> {
  const tenant = await findListed(session, name)
  const issuer = flags.none ? null : readIssuer(session, flags)
  const changed = await writeIssuer(session.store, tenant.id, issuer, tenant.configVersion)
  if (changed === null) throw new CliFailure(EXIT.notFound, `there is no tenant ${name}`)
  output.write(`${changed.key} has issuer ${issuer?.issuer ?? '-'}\n`)
  return EXIT.ok
}

function readIssuer({ platformIssuer, isProduction }: Session, flags: IssuerFlags) {
  const { issuer, jwks_url, audience } = readInput(issuerInput, {
    issuer: flags.issuer,
    jwks_url: flags.jwksUrl,
    audience: flags.audience,
  })
  if (issuer === platformIssuer) {
    throw new CliFailure(EXIT.usage, 'issuer: JWT_ISSUER is the platform’s own')
  }
  if (isProduction && !jwks_url.startsWith('https:')) {
    throw new CliFailure(EXIT.usage, 'jwks_url: must be https: in production')
  }
  return { issuer, jwksUrl: jwks_url, audience }
}
