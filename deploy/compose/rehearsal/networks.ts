import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { run } from '../../local/run.ts'

/** A service's place in one network. */
interface Place {
  readonly service: string
  readonly network: string
  readonly address: string
}

const COMMAND_MS = 10_000
/** DNS, RFC 1035: flags of an answer to a query that wished for recursion, and of one about a name that is not there. */
const FOUND = 0x8180
const NO_SUCH_NAME = 0x8183
const TYPE_A = 1

/**
 * The networks of a compose file as bridges within the network namespace that this runs in: who is in one reaches
 * those that are in it too, by their names, and nobody else. The first address of each is the machine's own.
 */
export class Networks {
  readonly #names: string[] = []
  readonly #places: Place[] = []
  #next = 10

  /** Makes those that are not there. */
  async make(names: readonly string[]): Promise<void> {
    await sh('ip link set lo up')
    for (const name of names) {
      if (this.#names.includes(name)) continue
      this.#names.push(name)
      await this.#bridge(name)
    }
  }

  /** Where the containers of a service are, in the networks that both are in or in all of them. */
  addressesOf(service: string, networks: readonly string[] = this.#names): string[] {
    return this.#places
      .filter(place => place.service === service && networks.includes(place.network))
      .map(({ address }) => address)
  }

  /** Who knows the names of a network. */
  nameserverOf(network: string): string {
    return `${this.#subnet(network)}.1`
  }

  /** Lets this machine answer as `service`: for what stands in the place of an image. */
  async addHere(service: string, networks: readonly string[]): Promise<void> {
    for (const network of networks) {
      const { address } = this.#place(service, network)
      await sh(`ip addr add ${address}/24 dev ${this.#device(network)}`)
    }
  }

  /** Connects the network namespace of process `pid`. Returns what takes its places away again. */
  async add(service: string, networks: readonly string[], pid: number): Promise<() => void> {
    const places = networks.map(network => this.#place(service, network))
    const inside = [`ip link set lo up`]
    const outside: string[] = []
    for (const [i, { network, address }] of places.entries()) {
      const [end, other] = [`v${address.split('.').slice(2).join('-')}`, `eth${i}`]
      outside.push(
        `ip link add ${end} type veth peer name ${other} netns ${pid}`,
        `ip link set ${end} master ${this.#device(network)} up`,
      )
      inside.push(`ip addr add ${address}/24 dev ${other}`, `ip link set ${other} up`)
    }
    await sh(outside.join(' && '))
    await sh(`nsenter --net=/proc/${pid}/ns/net sh -c '${inside.join(' && ')}'`)
    return () => {
      for (const place of places) this.#places.splice(this.#places.indexOf(place), 1)
    }
  }

  #place(service: string, network: string): Place {
    const place = { service, network, address: `${this.#subnet(network)}.${this.#next++}` }
    this.#places.push(place)
    return place
  }

  #subnet(network: string): string {
    const index = this.#names.indexOf(network)
    if (index === -1) throw new Error(`there is no network ${network}`)
    return `10.89.${index}`
  }

  #device(network: string): string {
    return `br-${network}`
  }

  async #bridge(network: string): Promise<void> {
    const own = this.nameserverOf(network)
    const device = this.#device(network)
    await sh(
      `ip link add ${device} type bridge && ip addr add ${own}/24 dev ${device} && ip link set ${device} up`,
    )
    const socket = createSocket('udp4')
    socket.on('message', (query, from) => {
      const answer = this.#answer(query, from.address)
      if (answer !== null) socket.send(answer, from.port, from.address)
    })
    socket.unref()
    socket.bind(53, own)
    await once(socket, 'listening')
  }

  /**
   * Each sees the names of its own networks alone, and all addresses in them: Docker tells those of the first that has
   * any, podman all, and both must do.
   */
  #answer(query: Buffer, from: string): Buffer | null {
    const labels: string[] = []
    let at = 12
    for (let length = query[at]; length; length = query[at]) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length))
      at += length + 1
    }
    const question = query.subarray(12, at + 5)
    if (question.length !== at + 5 - 12) return null
    const asker = this.#places.find(({ address }) => address === from)?.service
    const shared = this.#places.filter(({ service }) => service === asker)
    const found = this.addressesOf(
      labels.join('.').toLowerCase(),
      shared.map(({ network }) => network),
    )
    const records = query.readUInt16BE(at + 1) === TYPE_A ? found : []
    const head = Buffer.alloc(12)
    query.copy(head, 0, 0, 2)
    head.writeUInt16BE(found.length > 0 ? FOUND : NO_SUCH_NAME, 2)
    head.writeUInt16BE(1, 4)
    head.writeUInt16BE(records.length, 6)
    return Buffer.concat([head, question, ...records.map(record)])
  }
}

/** Name by a pointer to the question, type A, class IN, 1 s. */
function record(address: string): Buffer {
  return Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split('.').map(Number)])
}

async function sh(command: string): Promise<void> {
  const done = await run('sh', ['-c', command], COMMAND_MS)
  if (done.code !== 0) throw new Error(`${command}\n${done.output}`)
}
