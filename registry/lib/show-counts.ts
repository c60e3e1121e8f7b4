import { Counter, type Registry } from 'prom-client'

/**
 * A counter of counts that are kept elsewhere, where counting must cost nothing; read when somebody asks.
 *
 * @param label what the names of the counts are values of
 * @param read the counts since the start of the process
 */
export function showCounts(
  registry: Registry,
  name: string,
  help: string,
  label: string,
  read: () => Readonly<Record<string, number>>,
): void {
  new Counter({
    name,
    help,
    labelNames: [label],
    registers: [registry],
    collect() {
      this.reset()
      for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count)
    },
  })
}
