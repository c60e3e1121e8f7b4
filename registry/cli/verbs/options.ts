import { type Command, InvalidArgumentError, Option } from 'commander'
import { CliFailure, EXIT } from '../failure.ts'

export function withDbOptions(command: Command): Command {
  return command
    .option('--db-host <host>')
    .option('--db-port <port>', 'default 5432', wholeNumber)
    .option('--db-name <name>')
    .option('--db-user <user>')
    .addOption(sslMode('--db-ssl-mode'))
    .option('--db-pool-max <number>', 'connections per app replica', wholeNumber)
    .option(
      '--allow-shared-database',
      'even where another tenant has this database: they share data',
    )
}

export function withBucketOptions(command: Command): Command {
  return command
    .option('--bucket-name <name>')
    .option('--bucket-provider <provider>', 'such as aws, minio')
    .option('--bucket-endpoint <url>')
    .option('--bucket-region <region>')
    .option(
      '--bucket-prefix <prefix>',
      'such as acme/; no other tenant of the bucket may overlap it',
    )
}

export function sslMode(flag: string): Option {
  return new Option(`${flag} <mode>`).choices(['disable', 'require', 'verify-full'])
}

export function tenantMode(description?: string): Option {
  return new Option('--mode <mode>', description).choices(['shared', 'dedicated'])
}

export function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Not a whole number.')
  return Number(text)
}

export function between(min: number, max: number) {
  return (text: string) => {
    const number = Number(text)
    if (/^\d{1,9}$/.test(text) && number >= min && number <= max) return number
    throw new InvalidArgumentError(`From ${min} to ${max}.`)
  }
}

/** What a verb needs without --batch. @throws CliFailure usage */
export function required(value: string | undefined, name: string): string {
  if (value === undefined) throw new CliFailure(EXIT.usage, `${name} is required (or --batch)`)
  return value
}
