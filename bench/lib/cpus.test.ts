import t from 'tap'
import { parseCpuList } from './cpus.ts'

t.test("the kernel's CPU list is read, and nonsense gives no CPU", async t => {
  t.same(parseCpuList('0-1'), [0, 1])
  t.same(parseCpuList('3'), [3])
  t.same(parseCpuList('0-2,5,8-9'), [0, 1, 2, 5, 8, 9])
  t.same(parseCpuList('none'), [])
})
