import { createHash } from 'node:crypto'
import type { Client } from 'pg'

/** A database's schema as lines of text, sorted; two databases of equal lines behave alike. */
export interface Fingerprint {
  readonly hash: string
  readonly lines: readonly string[]
}

/** Records of tools, which differ from tenant to tenant by their nature. */
const RECORDS = `('doorman_migrations', 'SequelizeMeta')`
const OWN_SCHEMA = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`
/** What an extension brought is the extension's. */
const NO_EXTENSION = (oid: string) =>
  `NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = ${oid} AND d.deptype = 'e')`

/**
 * Not in it: the order of columns, which a column that was dropped once changes; owners and grants, which name the
 * tenant's role; data. Works on PostgreSQL 13 and later.
 */
const SCHEMA = `
  SELECT format('extension %I %s', extname, extversion) AS line FROM pg_extension
  UNION ALL
  SELECT format('%s %I.%I', CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
      WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' ELSE 'foreign table' END, n.nspname, relname)
    || CASE WHEN relkind IN ('v', 'm') THEN ' ' || md5(pg_get_viewdef(c.oid)) ELSE '' END
    || CASE WHEN relrowsecurity THEN ' row security' ELSE '' END
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relname NOT IN ${RECORDS} AND ${OWN_SCHEMA}
    AND ${NO_EXTENSION('c.oid')}
  UNION ALL
  SELECT format('column %I.%I.%I %s', n.nspname, relname, attname, format_type(atttypid, atttypmod))
    || CASE WHEN attnotnull THEN ' not null' ELSE '' END
    || CASE WHEN attidentity <> '' THEN ' identity ' || attidentity::text ELSE '' END
    || CASE WHEN attgenerated <> '' THEN ' generated' ELSE '' END
    || coalesce(' default ' || pg_get_expr(adbin, adrelid), '')
  FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    LEFT JOIN pg_attrdef f ON f.adrelid = attrelid AND f.adnum = attnum
  WHERE relkind IN ('r', 'p', 'f') AND attnum > 0 AND NOT attisdropped AND relname NOT IN ${RECORDS} AND ${OWN_SCHEMA}
    AND ${NO_EXTENSION('c.oid')}
  UNION ALL
  SELECT format('constraint %I.%I %I %s', n.nspname, relname, conname, pg_get_constraintdef(k.oid))
  FROM pg_constraint k JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relname NOT IN ${RECORDS} AND ${OWN_SCHEMA} AND contype <> 'n' AND ${NO_EXTENSION('c.oid')}
  UNION ALL
  SELECT 'index ' || pg_get_indexdef(indexrelid) || CASE WHEN indisvalid THEN '' ELSE ' invalid' END
  FROM pg_index JOIN pg_class c ON c.oid = indrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relname NOT IN ${RECORDS} AND ${OWN_SCHEMA} AND ${NO_EXTENSION('c.oid')}
  UNION ALL
  SELECT 'trigger ' || pg_get_triggerdef(t.oid) || CASE WHEN tgenabled = 'O' THEN '' ELSE ' enabled ' || tgenabled::text END
  FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE NOT tgisinternal AND ${OWN_SCHEMA}
  UNION ALL
  SELECT format('function %I.%I(%s) %s', n.nspname, proname, pg_get_function_identity_arguments(p.oid),
    md5(coalesce(prosrc, '') || provolatile::text || prosecdef::text || coalesce(proconfig::text, '')))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
  WHERE ${OWN_SCHEMA} AND ${NO_EXTENSION('p.oid')}
  UNION ALL
  SELECT format('enum %I.%I %s', n.nspname, typname, string_agg(enumlabel, ',' ORDER BY enumsortorder))
  FROM pg_enum e JOIN pg_type y ON y.oid = enumtypid JOIN pg_namespace n ON n.oid = typnamespace
  WHERE ${OWN_SCHEMA} AND ${NO_EXTENSION('y.oid')}
  GROUP BY n.nspname, typname
  UNION ALL
  SELECT format('policy %I.%I %I %s %s %s', n.nspname, relname, polname, polcmd,
    pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
  FROM pg_policy JOIN pg_class c ON c.oid = polrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE ${OWN_SCHEMA}`

export async function fingerprintOf(client: Client): Promise<Fingerprint> {
  const { rows } = await client.query<{ line: string }>(
    `SELECT line FROM (${SCHEMA}) AS all_lines ORDER BY line COLLATE "C"`,
  )
  // A line stays one in a file, too.
  return fingerprint(rows.map(({ line }) => line.replaceAll('\n', ' ')))
}

export function fingerprint(lines: readonly string[]): Fingerprint {
  return { hash: createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16), lines }
}

/** What `present` lacks of `reference` (missing), and has beyond it (extra). */
export function driftOf(present: Fingerprint, reference: Fingerprint): readonly string[] {
  const [has, wants] = [new Set(present.lines), new Set(reference.lines)]
  return [
    ...reference.lines.filter(line => !has.has(line)).map(line => `missing: ${line}`),
    ...present.lines.filter(line => !wants.has(line)).map(line => `extra: ${line}`),
  ]
}
