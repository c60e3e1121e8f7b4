import type { PriceLine, Prices } from '../../../billing/price-list.ts'
import { numberOrNull, type Values } from './form.ts'

/** A line of a price list as it is typed. */
export interface TypedLine {
  readonly metric: string
  /** Name of a counter of the app, where the metric is COUNTER. */
  readonly counter: string
  readonly included: string
  readonly per: string
  readonly tiers: readonly { readonly up_to: string; readonly price: string }[]
}

export const COUNTER = 'counter:'
export const NEW_TIER = { up_to: '', price: '' } as const
export const NEW_LINE: TypedLine = {
  ...{ metric: 'api_requests', counter: '', included: '0', per: '1' },
  tiers: [NEW_TIER],
}

/** Of lines for a form: each text by its path in the API, by which a refusal finds it. */
export function valuesOfLines(lines: readonly TypedLine[]): Values {
  const values: Record<string, string> = { count: String(lines.length) }
  for (const [i, { tiers, ...texts }] of lines.entries()) {
    for (const [name, text] of Object.entries(texts)) values[`${pathOf(i)}.${name}`] = text
    values[`${pathOf(i)}.count`] = String(tiers.length)
    for (const [k, tier] of tiers.entries()) {
      for (const [name, text] of Object.entries(tier)) values[`${pathOf(i, k)}.${name}`] = text
    }
  }
  return values
}

export function linesOfValues(values: Values): readonly TypedLine[] {
  const at = (path: string) => values[path] ?? ''
  return Array.from({ length: Number(at('count')) }, (_, i) => ({
    metric: at(`${pathOf(i)}.metric`),
    counter: at(`${pathOf(i)}.counter`),
    included: at(`${pathOf(i)}.included`),
    per: at(`${pathOf(i)}.per`),
    tiers: Array.from({ length: Number(at(`${pathOf(i)}.count`)) }, (_, k) => ({
      up_to: at(`${pathOf(i, k)}.up_to`),
      price: at(`${pathOf(i, k)}.price`),
    })),
  }))
}

/** Of a line, or of one of its steps. */
export function pathOf(line: number, tier?: number): string {
  return `prices.lines.${line}${tier === undefined ? '' : `.tiers.${tier}`}`
}

export function typedLines({ lines }: Prices): readonly TypedLine[] {
  return lines.map(({ metric, included, per, tiers }: PriceLine) => {
    const isCounter = metric.startsWith(COUNTER)
    return {
      metric: isCounter ? COUNTER : metric,
      counter: isCounter ? metric.slice(COUNTER.length) : '',
      ...{ included, per, tiers: tiers.map(({ up_to = '', price }) => ({ up_to, price })) },
    }
  })
}

/** As the API takes them; what is none goes as it is, and the API says so at its field. */
export function pricesOf(values: Values): unknown {
  return {
    base_fee: numberOrNull(values['prices.base_fee']) ?? 0,
    lines: linesOfValues(values).map(({ metric, counter, included, per, tiers }) => ({
      metric: metric === COUNTER ? `${COUNTER}${counter.trim()}` : metric,
      included: included.trim(),
      per: per.trim(),
      tiers: tiers.map(({ up_to: upTo, price }) => ({
        ...(upTo.trim() !== '' && { up_to: upTo.trim() }),
        price: price.trim(),
      })),
    })),
  }
}
