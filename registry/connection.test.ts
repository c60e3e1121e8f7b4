import t from 'tap'
import { openConnections } from './connection.ts'
import { Keyring } from './envelope.ts'
import { Fault } from './lib/errors.ts'
import type { Tenant } from './tenant.ts'
import { newTenant } from './test-kit.ts'

const keyring = await Keyring.derive(['a'.repeat(64)])

function sealedTenant(bucketKeys: boolean): Tenant {
  const base = newTenant()
  const owner = base.id
  const seal = (column: Parameters<Keyring['encrypt']>[1]['column'], text: string) =>
    keyring.encrypt(text, { owner, column })
  return {
    ...base,
    db: { ...base.db, passwordEncrypted: seal('db_password_encrypted', 'pw-MARKER') },
    bucket: {
      ...{ provider: 'minio', endpoint: 'http://h', region: 'r', name: 'b', prefix: 'p/' },
      accessKeyEncrypted: bucketKeys ? seal('bucket_access_key_encrypted', 'ak') : null,
      secretKeyEncrypted: bucketKeys ? seal('bucket_secret_key_encrypted', 'sk') : null,
    },
    ...{ configVersion: 1, appUrl: null, plan: null, limits: {}, tokensValidAfterMs: null },
    ...{
      tokenIssuer: null,
      schemaVersion: null,
      debugUntilMs: 0,
      createdAt: new Date(0),
      updatedAt: new Date(0),
    },
  }
}

t.test('all secrets are opened, absent bucket keys stay absent', async t => {
  t.match(openConnections(keyring, sealedTenant(true)), {
    db: { password: 'pw-MARKER', ssl: null, pool_max: null },
    bucket: { access_key: 'ak', secret_key: 'sk', prefix: 'p/' },
  })
  t.match(openConnections(keyring, sealedTenant(false)).bucket, {
    access_key: null,
    secret_key: null,
  })
  t.equal(openConnections(keyring, { ...sealedTenant(true), bucket: null }).bucket, null)
})

t.test(
  'a secret of another tenant or column is TENANT_CONFIG_INVALID and names the column',
  async t => {
    const [mine, theirs] = [sealedTenant(true), sealedTenant(true)]
    const { bucket } = mine
    if (bucket === null) throw new Error('no bucket')
    const swaps: [Tenant, RegExp][] = [
      [{ ...mine, db: theirs.db }, /db_password_encrypted/],
      [{ ...mine, bucket: theirs.bucket }, /bucket_access_key_encrypted/],
      [
        { ...mine, bucket: { ...bucket, secretKeyEncrypted: bucket.accessKeyEncrypted } },
        /bucket_secret/,
      ],
    ]
    for (const [tenant, column] of swaps) {
      try {
        openConnections(keyring, tenant)
        t.fail('opened')
      } catch (error) {
        t.ok(error instanceof Fault && error.code === 'TENANT_CONFIG_INVALID')
        t.match((error as Fault).reason, column)
        t.notMatch(String((error as Fault).stack), 'MARKER')
      }
    }
  },
)
