import { z } from 'zod'
import { int, parsed, url } from '../env.ts'
import type { ExporterOptions } from './exporter.ts'
import { makeSampler, SAMPLERS, type Sampler } from './sampler.ts'

/** Variables of the OpenTelemetry specification, by its names and with its defaults. */
export const otelEnv = {
  OTEL_EXPORTER_OTLP_ENDPOINT: url('http:', 'https:').optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url('http:', 'https:').optional(),
  OTEL_EXPORTER_OTLP_HEADERS: parsed(z.string(), readPairs).optional(),
  OTEL_EXPORTER_OTLP_TIMEOUT: int(100, 60_000, 10_000),
  OTEL_BSP_SCHEDULE_DELAY: int(1, 60_000, 5000),
  OTEL_TRACES_SAMPLER: z
    .enum(SAMPLERS, `must be one of ${SAMPLERS.join(', ')}`)
    .default('parentbased_always_on'),
  OTEL_TRACES_SAMPLER_ARG: parsed(z.string().default('1'), readRatio),
  OTEL_SERVICE_NAME: z.string().optional(),
  OTEL_RESOURCE_ATTRIBUTES: parsed(z.string(), readPairs).optional(),
} as const

type OtelEnv = z.infer<z.ZodObject<typeof otelEnv>>

/** Who keeps which traces, and where they go. */
export interface TraceOptions {
  readonly sampler: Sampler
  readonly exporter: Omit<ExporterOptions, 'log'>
}

/**
 * null where no endpoint is given: nothing is exported, and nothing of it runs.
 *
 * @param own attributes of this process; OTEL_RESOURCE_ATTRIBUTES win over them, and OTEL_SERVICE_NAME over both
 */
export function traceOptions(
  env: OtelEnv,
  own: Readonly<Record<string, string>>,
): TraceOptions | null {
  const endpoint = endpointOf(env)
  if (endpoint === null) return null
  const { OTEL_SERVICE_NAME: name } = env
  const resource = {
    ...own,
    ...env.OTEL_RESOURCE_ATTRIBUTES,
    ...(name !== undefined && { 'service.name': name }),
  }
  return {
    sampler: makeSampler(env.OTEL_TRACES_SAMPLER, env.OTEL_TRACES_SAMPLER_ARG),
    exporter: {
      url: endpoint,
      headers: env.OTEL_EXPORTER_OTLP_HEADERS ?? {},
      timeoutMs: env.OTEL_EXPORTER_OTLP_TIMEOUT,
      delayMs: env.OTEL_BSP_SCHEDULE_DELAY,
      resource: Object.entries(resource).flat(),
    },
  }
}

/** The one for traces is taken as it is; below the common one they have a path of their own. */
function endpointOf(env: OtelEnv): string | null {
  if (env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT !== undefined) {
    return env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  }
  const { OTEL_EXPORTER_OTLP_ENDPOINT: base } = env
  return base === undefined ? null : `${base.replace(/\/+$/, '')}/v1/traces`
}

/** `key1=value1,key2=value2` with values in percent-encoding (W3C Baggage). */
function readPairs(text: string): Readonly<Record<string, string>> {
  const pairs = text.split(',').filter(pair => pair.trim() !== '')
  return Object.fromEntries(
    pairs.map(pair => {
      const at = pair.indexOf('=')
      const key = pair.slice(0, at).trim()
      const value = decoded(pair.slice(at + 1).trim())
      // Not quoted: it may be a key.
      if (at < 1 || !/^[!-~]+$/.test(key) || value === null) {
        throw new Error('must be a list such as name=value,name=value')
      }
      return [key, value]
    }),
  )
}

function decoded(text: string): string | null {
  try {
    const value = decodeURIComponent(text)
    return /^[ -~\u00a0-\uffff]*$/.test(value) ? value : null
  } catch {
    return null
  }
}

function readRatio(text: string): number {
  const ratio = Number(text)
  if (!/^\d*\.?\d+$/.test(text) || ratio > 1) throw new Error('must be a number from 0 to 1')
  return ratio
}
