/** How a schema is read. All with an empty search_path, so that every name comes out whole. */

const USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"

/** Not what an extension brings along. */
const notOfExtension = (catalog: string, oid: string) => `NOT EXISTS (
  SELECT FROM pg_depend e WHERE e.classid = '${catalog}'::regclass AND e.objid = ${oid} AND e.deptype = 'e')`

const name = (alias = 'c') => `format('%I.%I', n.nspname, ${alias}.relname)`

export const SCHEMAS = `
  SELECT format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) AS make,
    format('DROP SCHEMA IF EXISTS %I', n.nspname) AS drop
  FROM pg_namespace n WHERE ${USER_SCHEMA} AND n.nspname <> 'public'
    AND ${notOfExtension('pg_namespace', 'n.oid')} ORDER BY n.nspname`

export const EXTENSIONS = `
  SELECT x.extname AS name, format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I', x.extname, n.nspname) AS make
  FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
  WHERE x.extname <> 'plpgsql' ORDER BY x.oid`

export const ENUMS = `
  SELECT format('CREATE TYPE %I.%I AS ENUM (%s)', n.nspname, y.typname,
      string_agg(quote_literal(v.enumlabel), ', ' ORDER BY v.enumsortorder)) AS make,
    format('DROP TYPE IF EXISTS %I.%I CASCADE', n.nspname, y.typname) AS drop
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace JOIN pg_enum v ON v.enumtypid = y.oid
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_type', 'y.oid')}
  GROUP BY y.oid, n.nspname, y.typname ORDER BY y.oid`

/** Those of identity columns come with their tables. */
export const SEQUENCES = `
  SELECT ${name()} AS name, d.deptype = 'i' AS is_identity,
    format('CREATE SEQUENCE %s AS %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %s', ${name()},
      format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
      CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END) AS make,
    CASE WHEN d.deptype = 'a' THEN format('ALTER SEQUENCE %s OWNED BY %s.%I', ${name()},
      d.refobjid::regclass, a.attname) END AS own,
    format('DROP SEQUENCE IF EXISTS %s CASCADE', ${name()}) AS drop
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
    AND d.refclassid = 'pg_class'::regclass
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')} AND c.relpersistence <> 't' ORDER BY c.oid`

export const FUNCTIONS = `
  SELECT pg_get_functiondef(p.oid) AS make,
    format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) AS drop
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
  WHERE ${USER_SCHEMA} AND p.prokind IN ('f', 'p') AND ${notOfExtension('pg_proc', 'p.oid')} ORDER BY p.oid`

const IDENTITY = `
  SELECT format('GENERATED %s AS IDENTITY (SEQUENCE NAME %s START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %s)',
    CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, s.seqrelid::regclass, s.seqstart, s.seqincrement,
    s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
  FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid
  WHERE d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'`

/** Tables without what is put on them after their data. */
export const TABLES = `
  SELECT ${name()} AS name, c.relowner::regrole::text AS owner, pg_has_role(c.relowner, 'USAGE') AS is_ours,
    pg_table_size(c.oid)::text AS data_bytes, pg_total_relation_size(c.oid)::text AS bytes,
    coalesce(string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum), '') AS columns,
    coalesce(string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''), '')
      AS stored_columns,
    format('CREATE %sTABLE %s (%s)%s', CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, ${name()},
      string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attcollation <> y.typcollation THEN 'COLLATE ' || (
          SELECT format('%I.%I', l.nspname, k.collname) FROM pg_collation k
          JOIN pg_namespace l ON l.oid = k.collnamespace WHERE k.oid = a.attcollation) END,
        CASE a.attgenerated WHEN '' THEN 'DEFAULT ' || pg_get_expr(f.adbin, f.adrelid)
          ELSE format('GENERATED ALWAYS AS (%s) %s', pg_get_expr(f.adbin, f.adrelid),
            CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) END,
        CASE WHEN a.attidentity <> '' THEN (${IDENTITY}) END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END), ', ' ORDER BY a.attnum),
      ' WITH (' || array_to_string(c.reloptions, ', ') || ')') AS make,
    format('DROP TABLE IF EXISTS %s CASCADE', ${name()}) AS drop
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_attrdef f ON f.adrelid = c.oid AND f.adnum = a.attnum
  WHERE c.relkind = 'r' AND ${USER_SCHEMA} AND c.relpersistence <> 't' AND ${notOfExtension('pg_class', 'c.oid')}
  GROUP BY c.oid, n.nspname, c.relname ORDER BY c.oid`

/** What goes onto the tables once their data is there: keys before foreign keys, triggers last. */
export const ON_TABLES = `
  SELECT make FROM (
    SELECT CASE k.contype WHEN 'f' THEN 4 WHEN 'c' THEN 2 ELSE 1 END AS place, k.oid,
      format('ALTER TABLE %s ADD CONSTRAINT %I %s', ${name()}, k.conname, pg_get_constraintdef(k.oid)) AS make
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE k.contype IN ('p', 'u', 'x', 'c', 'f') AND c.relkind = 'r' AND ${USER_SCHEMA}
      AND ${notOfExtension('pg_class', 'c.oid')}
    UNION ALL
    SELECT 3, i.indexrelid, pg_get_indexdef(i.indexrelid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')} AND NOT EXISTS (
      SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
    UNION ALL
    SELECT 5, c.oid, format('CREATE VIEW %s%s AS %s', ${name()},
      ' WITH (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'v' AND ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')}
    UNION ALL
    SELECT 6, g.oid, pg_get_triggerdef(g.oid) || CASE g.tgenabled WHEN 'O' THEN '' ELSE format(
      '; ALTER TABLE %s %s TRIGGER %I', ${name()},
      CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END, g.tgname) END
    FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT g.tgisinternal AND ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')}
  ) AS parts ORDER BY place, oid`

/** What is not copied, and must not be left out without a word. */
export const REFUSED = `
  SELECT CASE c.relkind WHEN 'p' THEN 'partitioned table ' WHEN 'f' THEN 'foreign table ' WHEN 'm' THEN
      'materialized view ' WHEN 'c' THEN 'composite type ' ELSE 'inherited table ' END || ${name()} AS what
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')} AND (c.relkind IN ('p', 'f', 'm', 'c')
    OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid AND c.relkind = 'r'))
  UNION ALL
  SELECT 'row level security of ' || ${name()}
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE ${USER_SCHEMA} AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid))
  UNION ALL
  SELECT 'rule ' || r.rulename FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${USER_SCHEMA} AND r.rulename <> '_RETURN'
  UNION ALL
  SELECT 'type ' || format('%I.%I', n.nspname, y.typname) FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
  WHERE ${USER_SCHEMA} AND y.typtype IN ('d', 'r', 'b') AND y.typelem = 0 AND ${notOfExtension('pg_type', 'y.oid')}
  UNION ALL
  SELECT 'function ' || p.oid::regprocedure FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_language l ON l.oid = p.prolang
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_proc', 'p.oid')} AND (p.prokind NOT IN ('f', 'p')
    OR l.lanname IN ('c', 'internal') OR (to_jsonb(p) ->> 'prosqlbody') IS NOT NULL)
  UNION ALL
  SELECT 'operator ' || o.oprname FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_operator', 'o.oid')}
  UNION ALL
  SELECT 'large objects' WHERE EXISTS (SELECT FROM pg_largeobject_metadata)`

/** What is left out and may be missed. */
export const LEFT_OUT = `
  SELECT DISTINCT 'grants to ' || coalesce(g.rolname, 'PUBLIC') AS what
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) x
    LEFT JOIN pg_roles g ON g.oid = x.grantee
  WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')} AND x.grantee <> c.relowner
  UNION ALL
  SELECT 'comments' WHERE EXISTS (SELECT FROM pg_description d JOIN pg_class c ON c.oid = d.objoid
    AND d.classoid = 'pg_class'::regclass JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ${USER_SCHEMA} AND ${notOfExtension('pg_class', 'c.oid')})
  UNION ALL
  SELECT 'settings of the database or the role in it' WHERE EXISTS (SELECT FROM pg_db_role_setting s
    JOIN pg_database b ON b.oid = s.setdatabase WHERE b.datname = current_database())
  UNION ALL
  SELECT 'extended statistics' WHERE EXISTS (SELECT FROM pg_statistic_ext)`
