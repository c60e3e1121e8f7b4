import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { makeContextMap, PEER_HMAC_KEY, renderContextMap } from './context-map.ts'
import { nginxVersion, startNginx } from './nginx-config.ts'
import type { Peer } from './peer.ts'

const MODULE_DIRS = [
  '/usr/lib/nginx/modules',
  '/usr/lib64/nginx/modules',
  '/usr/share/nginx/modules',
  '/usr/local/nginx/modules',
]
const MODULES = ['ndk_http_module.so', 'ngx_http_lua_module.so']

/** nginx with the same job written in Lua on LuaJIT, HMAC from libcrypto by FFI. */
export const nginxLua: Peer = {
  name: 'nginx-lua',
  does:
    'The same job in Lua (LuaJIT, HMAC by FFI from the libcrypto that nginx has loaded, cjson): HS256, exp and type ' +
    'verified on every request (no cache), tenant from a Lua table, copies of x-tenant-* stripped, context and ' +
    'HMAC per request. Faster than the usual lua-resty-jwt. Less: as HAProxy (constant context, no ' +
    'Registry, no metering).',
  isFullJob: true,
  isJit: true,
  async find() {
    const version = nginxVersion()
    return version !== null && moduleDir() !== undefined ? version : null
  },
  async start(setting) {
    const dir = moduleDir()
    const map = join(setting.dir, 'tenants.map')
    const script = join(setting.dir, 'tenant.lua')
    await writeFile(map, renderContextMap(makeContextMap(setting.world)))
    await writeFile(script, renderScript(setting.world.jwtSecret, map))
    return startNginx(setting, {
      main: MODULES.map(name => `load_module ${dir}/${name};`).join('\n'),
      http: `  lua_package_path '${setting.dir}/?.lua;;';\n  init_by_lua_block { require 'tenant' }`,
      location: `      access_by_lua_block { require('tenant').access() }`,
    })
  },
}

function moduleDir(): string | undefined {
  return MODULE_DIRS.find(dir => MODULES.every(name => existsSync(join(dir, name))))
}

function renderScript(secret: string, map: string): string {
  return `local ffi = require 'ffi'
local cjson = require 'cjson'
local base64 = require 'ngx.base64'
ffi.cdef[[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *d, size_t n,
                    unsigned char *out, unsigned int *out_len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]
local C = ffi.C
local sha256 = C.EVP_sha256()
local out = ffi.new('unsigned char[64]')
local out_len = ffi.new('unsigned int[1]')
local jwt_key = '${secret}'
local mac_key = ngx.decode_base64('${PEER_HMAC_KEY.toString('base64')}')
local find, sub, lower = string.find, string.sub, string.lower

local contexts = {}
for line in io.lines('${map}') do
  local key, value = line:match('^(%S+) (%S+)$')
  contexts[key] = value
end

local function hmac(key, text)
  C.HMAC(sha256, key, #key, text, #text, out, out_len)
end

local function principal()
  local authorization = ngx.var.http_authorization
  if not authorization or sub(authorization, 1, 7) ~= 'Bearer ' then return nil end
  local first = find(authorization, '.', 8, true)
  local second = first and find(authorization, '.', first + 1, true)
  if not second then return nil end
  local header = base64.decode_base64url(sub(authorization, 8, first - 1))
  if not header then return nil end
  local ok, fields = pcall(cjson.decode, header)
  if not ok or fields.alg ~= 'HS256' then return nil end
  local given = base64.decode_base64url(sub(authorization, second + 1))
  if not given or #given ~= 32 then return nil end
  hmac(jwt_key, sub(authorization, 8, second - 1))
  if C.CRYPTO_memcmp(out, given, 32) ~= 0 then return nil end
  local payload = base64.decode_base64url(sub(authorization, first + 1, second - 1))
  if not payload then return nil end
  local parsed, claims = pcall(cjson.decode, payload)
  if not parsed or type(claims.exp) ~= 'number' or claims.exp <= ngx.time() then return nil end
  if claims.type ~= 'access' then return nil end
  return claims.tenant_id, claims.id
end

local function login()
  ngx.req.read_body()
  local ok, body = pcall(cjson.decode, ngx.req.get_body_data() or '')
  return ok and body.tenant_key or nil, ''
end

local M = {}
function M.access()
  for name in pairs(ngx.req.get_headers(100)) do
    if sub(lower(name), 1, 9) == 'x-tenant-' then ngx.req.clear_header(name) end
  end
  local tenant, user
  if ngx.var.uri == '/api/auth/login' then tenant, user = login() else tenant, user = principal() end
  local context = tenant and contexts[tenant]
  if not context then return ngx.exit(401) end
  local id = ngx.var.request_id
  local now = ngx.time()
  hmac(mac_key, tenant .. ' ' .. user .. ' ' .. ngx.req.get_method() .. ' ' .. ngx.var.request_uri .. ' ' .. id)
  ngx.req.set_header('x-tenant-context', context)
  ngx.req.set_header('x-tenant-request',
    user .. '.' .. id .. '.' .. now .. '.' .. base64.encode_base64url(ffi.string(out, 32)))
end
return M
`
}
