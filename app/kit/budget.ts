/** A pool, as the budget sees it. */
export interface Member {
  /** `host:port` of its server, in lower case. */
  readonly server: string
  /** True while one more connection would serve a request that waits. */
  readonly wantsSlot: boolean
  /** Opens a connection by the slot that was just taken for it; it comes back by `give`. */
  open(): void
}

interface Server {
  used: number
  freeing: number
  idle: number
}

/**
 * The connections that one replica may hold open to all tenant databases together, and to each server
 * of them. A slot belongs to a socket, from before it is opened until it is closed. Pools that want one
 * take turns: each gets one slot, and goes to the end of the line if it wants more, so that the many
 * requests of one tenant never stand before the first of another.
 */
export class ConnectionBudget {
  readonly max: number
  readonly serverMax: number
  readonly #servers = new Map<string, Server>()
  /** In the order of their turns; at most one entry per pool. */
  readonly #wanting = new Set<Member>()
  #used = 0
  #freeing = 0
  #idle = 0
  /** Closes one idle connection, on `server` where it is given; set by the owner of the pools. */
  evictIdle: (server: string | null) => boolean = () => false

  constructor(max: number, serverMax: number) {
    this.max = max
    this.serverMax = serverMax
  }

  get used(): number {
    return this.#used
  }

  /** Connections of the server that has most. */
  get usedOnBusiestServer(): number {
    let most = 0
    for (const { used } of this.#servers.values()) most = Math.max(most, used)
    return most
  }

  /** Pools that wait for their turn. */
  get wanting(): number {
    return this.#wanting.size
  }

  /** Gets in line for a slot; where there is room, `member.open` is called before this returns. */
  want(member: Member): void {
    this.#wanting.add(member)
    this.#grant()
    if (this.#wanting.size > 0) this.#makeRoom()
  }

  /** Leaves the line: nobody waits any more. */
  withdraw(member: Member): void {
    this.#wanting.delete(member)
  }

  /** The socket of a slot is gone. */
  give(server: string, wasFreeing: boolean): void {
    const at = this.#at(server)
    at.used -= 1
    this.#used -= 1
    if (wasFreeing) {
      at.freeing -= 1
      this.#freeing -= 1
    }
    if (at.used === 0) this.#servers.delete(server)
    if (this.#wanting.size === 0) return
    this.#grant()
    this.#makeRoom()
  }

  /** A socket is about to be closed: its slot will come. */
  noteFreeing(server: string): void {
    this.#at(server).freeing += 1
    this.#freeing += 1
  }

  /** @param change 1 where a connection became idle, -1 where one is used again or closed */
  noteIdle(server: string, change: 1 | -1): void {
    this.#at(server).idle += change
    this.#idle += change
    if (change === 1 && this.#wanting.size > 0) this.#makeRoom()
  }

  /** True where the slot of `holder`, were it free now, would be the turn of another pool. */
  isWantedByOther(holder: Member): boolean {
    if (this.#wanting.size === 0) return false
    let coming = this.#used < this.max ? this.#at(holder.server).freeing : this.#freeing
    for (const member of this.#wanting) {
      if (member.server !== holder.server && this.#isFull(member.server)) continue
      if (coming > 0) coming -= 1
      else return member !== holder
    }
    return false
  }

  #grant(): void {
    // What is added while a Set is walked is walked too: a pool that wants more has its next turn
    // after all others.
    for (const member of this.#wanting) {
      if (this.#used >= this.max) return
      if (this.#isFull(member.server)) continue
      this.#wanting.delete(member)
      if (!member.wantsSlot) continue
      this.#used += 1
      this.#at(member.server).used += 1
      member.open()
      if (member.wantsSlot) this.#wanting.add(member)
    }
  }

  /** Idle connections of others make room for those in line, one for each. */
  #makeRoom(): void {
    let coming = this.#freeing
    for (const { server } of this.#wanting) {
      if (this.#idle === 0) return
      if (coming > 0) coming -= 1
      else if (!this.#isFull(server)) {
        if (!this.evictIdle(null)) return
      } else if (this.#at(server).idle > 0) this.evictIdle(server)
    }
  }

  #isFull(server: string): boolean {
    return (this.#servers.get(server)?.used ?? 0) >= this.serverMax
  }

  #at(server: string): Server {
    let at = this.#servers.get(server)
    if (at === undefined) {
      at = { used: 0, freeing: 0, idle: 0 }
      this.#servers.set(server, at)
    }
    return at
  }
}
