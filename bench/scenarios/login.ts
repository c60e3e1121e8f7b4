import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const login: Scenario = {
  ...WARM,
  name: 'login',
  title: 'login, the tenant named in the JSON body',
  traffic: { ...SMALL_GET, method: 'POST', path: '/api/auth/login', isLogin: true, tokens: 10_000 },
}
