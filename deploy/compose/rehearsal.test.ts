import { join } from 'node:path'
import t from 'tap'
import { run } from '../local/run.ts'

/** Processes, mounts and a network of its own, which end with it: nothing of this machine is touched. */
const APART = ['--net', '--mount', '--mount-proc', '--pid', '--fork', '--kill-child', '--']
const INSIDE = join(import.meta.dirname, 'rehearsal/inside.ts')

t.test('compose, as docs/deploy.md says it', { skip: await whyNot() }, async t => {
  const args = [...APART, process.execPath, INSIDE]
  await t.spawn('unshare', args, {}, 'within namespaces of its own')
})

/** Who may not make namespaces, bridges and mounts cannot rehearse. */
async function whyNot(): Promise<string | false> {
  const needed = `ip link add doorman type bridge && ip link add doorman-a type veth peer name doorman-b &&
    mount -t tmpfs tmpfs /mnt && command -v nsenter && command -v setpriv && command -v bash`
  const tried = await run('unshare', [...APART, 'sh', '-c', needed], 10_000).catch(() => null)
  if (tried?.code === 0) return false
  return 'needs root, and unshare, ip, nsenter, setpriv and bash'
}
