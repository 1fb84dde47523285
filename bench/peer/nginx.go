package peer

import (
	"fmt"
	"path/filepath"
)

// Nginx is Debian's nginx in front of the origin at a unix socket, set up to pass a
// stream on as it comes. Its files are in dir, its log at log.
func Nginx(listen, originSocket, dir, log string) Spec {
	config := filepath.Join(dir, "nginx.conf")
	return Spec{
		Name:    "nginx",
		Command: []string{"/usr/sbin/nginx", "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", config},
		Files:   map[string]string{config: nginxConfig(listen, originSocket, dir, log)},
		Ready:   "tcp:" + listen,
		Dir:     dir,
	}
}

func nginxConfig(listen, originSocket, dir, log string) string {
	return fmt.Sprintf(`daemon off;
worker_processes auto;
worker_rlimit_nofile 16384;
pid %[3]s/nginx.pid;
events { worker_connections 4096; }
http {
  access_log %[4]s;
  client_body_temp_path %[3]s/body;
  proxy_temp_path %[3]s/proxy;
  fastcgi_temp_path %[3]s/fastcgi;
  uwsgi_temp_path %[3]s/uwsgi;
  scgi_temp_path %[3]s/scgi;
  client_max_body_size 32m;
  upstream origin { server unix:%[2]s; keepalive 64; }
  server {
    listen %[1]s;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 1h;
    }
  }
}
`, listen, originSocket, dir, log)
}
