import { chownSync, existsSync, mkdirSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { ROOT, readSource } from '../../checks/sources.ts'
import { type Dockerfile, parseDockerfile } from '../../image/dockerfile.ts'
import { type ComposeFile, readComposeFiles, type Service, startOrder } from './compose-file.ts'
import { type Container, type Mount, startContainer } from './container.ts'
import { Networks } from './networks.ts'

/** What a command of `docker compose` came to. */
export interface Ended {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** What an image brings along. */
export type Image = Pick<Dockerfile, 'copies' | 'env' | 'user' | 'entrypoint' | 'command'>

export interface EngineOptions {
  /** For what containers are made of; ours alone. */
  readonly folder: string
  /** The first of the files: paths in it are relative to it. */
  readonly files: readonly string[]
  /** Starts what stands in the place of an image that is not ours, at the service's address in its networks. */
  readonly standIns: Readonly<Record<string, (service: Service, engine: Engine) => Promise<void>>>
  /** By service, images that are not built here and whose program this machine has. */
  readonly images: Readonly<Record<string, Image>>
}

const HEALTHY_MS = 60_000
const CHECK_MS = 10_000
const RUN_MS = 90_000
const STOP_MS = 15_000
/** Where the image's packages and Node's own program are. */
const NODE = '/opt/node'

/** As much of `docker compose` as docs/deploy.md uses, on our own services. */
export class Engine {
  readonly #options: EngineOptions
  readonly #running = new Map<string, { config: string; containers: Container[] }>()
  readonly #published = new Map<string, Server>()
  readonly networks = new Networks()
  #made = 0

  constructor(options: EngineOptions) {
    this.#options = options
  }

  containersOf(service: string): readonly Container[] {
    return this.#running.get(service)?.containers ?? []
  }

  /** The file alone, without those that are added. */
  get compose(): ComposeFile {
    return readComposeFiles(this.#options.files)
  }

  /** The file of a secret, on this machine. */
  secretFile(name: string): string {
    const [file = ''] = this.#options.files
    return resolve(dirname(file), this.compose.secrets[name]?.file ?? `no secret ${name}`)
  }

  /** Starts in the order of dependencies what is not up or has changed, and waits until all are healthy. */
  async up(files: readonly string[]): Promise<void> {
    const compose = readComposeFiles(files)
    await this.networks.make(Object.keys(compose.networks))
    for (const name of startOrder(compose)) {
      const service = compose.services[name] as Service
      for (const [needed, { condition }] of Object.entries(service.depends_on ?? {})) {
        await this.#await(compose, needed, condition)
      }
      await this.#update(compose, name, service)
    }
    for (const name of this.#running.keys()) {
      if (compose.services[name]?.healthcheck) await this.#await(compose, name, 'service_healthy')
    }
  }

  /** One container of a service, to its end. */
  async run(
    files: readonly string[],
    name: string,
    args: readonly string[],
    input: string,
  ): Promise<Ended> {
    const compose = readComposeFiles(files)
    const service = compose.services[name]
    if (service === undefined) throw new Error(`there is no service ${name}`)
    const command = args.length > 0 ? args : service.command
    const container = await this.#start(compose, name, service, command, input)
    const timer = setTimeout(() => void container.stop(0), RUN_MS)
    const code = await container.exited
    clearTimeout(timer)
    return { code: code ?? 1, out: container.text('out'), err: container.text('err') }
  }

  /** Ends what runs by SIGTERM. Returns how each ended, by service; harmless when repeated. */
  async stop(): Promise<Map<string, (number | null)[]>> {
    for (const server of this.#published.values()) server.close()
    const running = [...this.#running]
    this.#running.clear()
    const ends = running.map(async ([name, { containers }]) => {
      const codes = await Promise.all(containers.map(container => container.stop(STOP_MS)))
      return [name, codes] as const
    })
    return new Map(await Promise.all(ends))
  }

  async #update(compose: ComposeFile, name: string, service: Service): Promise<void> {
    const config = JSON.stringify(service)
    const before = this.#running.get(name)
    if (before?.config === config) return
    // How they drain is shown elsewhere.
    await Promise.all((before?.containers ?? []).map(container => container.stop(0)))
    const standIn = this.#options.standIns[name]
    const containers: Container[] = []
    this.#running.set(name, { config, containers })
    if (standIn !== undefined) return standIn(service, this)
    for (let i = 0; i < (service.deploy?.replicas ?? 1); i++) {
      containers.push(await this.#start(compose, name, service, service.command))
    }
    for (const port of service.ports ?? []) await this.#publish(name, service, port)
  }

  /** `127.0.0.1:9090-9091:9090`: one port of this machine for each of its containers. */
  async #publish(name: string, { networks }: Service, text: string): Promise<void> {
    const [host = '', ports = '', target] = text.split(':')
    const [first = 0, last = first] = ports.split('-').map(Number)
    for (let i = 0; i <= last - first; i++) {
      const place = `${host}:${first + i}`
      if (this.#published.has(place)) continue
      const server = createServer(client => {
        // Looked up for each: those of a container that was made anew have changed.
        const [address] = this.networks.addressesOf(name, networks.slice(0, 1)).slice(i)
        forward(client, address, Number(target))
      })
      this.#published.set(place, server)
      await listen(server, first + i, host)
    }
  }

  async #await(compose: ComposeFile, name: string, condition: string): Promise<void> {
    const containers = this.containersOf(name)
    if (condition === 'service_completed_successfully') {
      for (const container of containers) {
        const code = await container.exited
        if (code !== 0) throw new Error(`${name}: ${code}\n${container.lines.join('\n')}`)
      }
    } else if (condition === 'service_healthy') {
      const [kind, ...check] = compose.services[name]?.healthcheck?.test ?? []
      if (kind !== 'CMD') throw new Error(`${name} has no health check of a command`)
      // One by one: each check is a process, and there are few cores.
      for (const container of containers) await healthy(name, container, check)
    } else throw new Error(`what is ${condition}?`)
  }

  async #start(
    compose: ComposeFile,
    name: string,
    service: Service,
    command: readonly string[] | undefined,
    input?: string,
  ): Promise<Container> {
    const { folder: parent, files } = this.#options
    const image = this.#options.images[name] ?? imageOf(service)
    const folder = join(parent, `${name}-${this.#made++}`)
    mkdirSync(folder)
    // Process 1 of the image: it does nothing here that the end of all processes within does not.
    const [init, dashes, ...entrypoint] = service.entrypoint ?? image.entrypoint
    const program = init === 'tini' ? entrypoint : [init, dashes, ...entrypoint].filter(Boolean)
    return startContainer({
      folder,
      workdir: image.copies.length > 0 ? '/doorman' : '/',
      user: image.user,
      mounts: [
        { source: process.execPath, target: `${NODE}/node` },
        ...(image.copies.length > 0 ? this.#imageMounts(image) : []),
        ...this.#volumeMounts(service, image),
        ...(service.secrets ?? []).map(secret => ({
          source: resolve(dirname(files[0] as string), compose.secrets[secret]?.file ?? secret),
          target: `/run/secrets/${secret}`,
        })),
      ],
      env: { PATH: `${NODE}:/usr/bin:/bin`, ...image.env, ...service.environment },
      command: [...(program as string[]), ...(command ?? image.command)],
      nameserver: this.networks.nameserverOf(service.networks[0] as string),
      connect: pid => this.networks.add(name, service.networks, pid),
      ...(input !== undefined && { input }),
    })
  }

  /** What the Dockerfile copies, and the packages; where V8 keeps what it compiled is filled as it goes. */
  #imageMounts(image: Image): Mount[] {
    const cache = this.#ownFolder('compile-cache', image.user)
    return [
      ...image.copies.flatMap(({ sources, target }) =>
        sources.map(source => ({
          source: join(ROOT, source),
          target: join('/doorman', /\/$/.test(target) ? join(target, fileName(source)) : target),
        })),
      ),
      { source: join(ROOT, 'node_modules'), target: '/doorman/node_modules' },
      { source: cache, target: String(image.env.NODE_COMPILE_CACHE), isWritable: true },
    ]
  }

  #volumeMounts(service: Service, image: Image): Mount[] {
    return (service.volumes ?? []).map(volume => {
      const [name = '', target = ''] = volume.split(':')
      const source = resolve(dirname(this.#options.files[0] as string), name)
      if (name.startsWith('.')) return { source, target }
      return { source: this.#ownFolder(`volume-${name}`, image.user), target, isWritable: true }
    })
  }

  #ownFolder(name: string, user: string): string {
    const folder = join(this.#options.folder, name)
    if (existsSync(folder)) return folder
    mkdirSync(folder, { mode: 0o700 })
    const [uid, gid] = user.split(':').map(Number)
    chownSync(folder, Number(uid), Number(gid))
    return folder
  }
}

/** A listener within the namespace of the rehearsal. */
export function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', reject)
    server.listen(port, host, () => {
      server.unref()
      resolve()
    })
  })
}

/** Both ways until one side ends. */
export function forward(client: Socket, address = '127.0.0.1', port = 0): void {
  const upstream = connect(port, address)
  for (const [one, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    one.on('error', () => other.destroy())
    one.pipe(other)
  }
}

function fileName(path: string): string {
  return path.split('/').at(-1) ?? ''
}

function imageOf({ image }: Service): Dockerfile {
  const [, name] = /^doorman-(gateway|app)$/.exec(image) ?? []
  if (name === undefined) throw new Error(`nothing stands in the place of ${image}`)
  return parseDockerfile(readSource(`Dockerfile.${name}`))
}

async function healthy(
  name: string,
  container: Container,
  check: readonly string[],
): Promise<void> {
  const deadline = Date.now() + HEALTHY_MS
  let isUp = true
  void container.exited.then(() => {
    isUp = false
  })
  for (;;) {
    const checked = await container.exec(check, CHECK_MS).catch(String)
    if (typeof checked !== 'string' && checked.code === 0) return
    if (!isUp || Date.now() > deadline) {
      const why = typeof checked === 'string' ? checked : checked.output
      throw new Error(`${name} is not healthy: ${why}\n${container.lines.slice(-10).join('\n')}`)
    }
    await delay(200)
  }
}
