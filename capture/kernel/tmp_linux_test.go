package kernel
import ("testing";"promflow/capture";"promflow/capture/subnets";"promflow/capture/labels";"strings";"time")
func TestTmpLoadXDP(t *testing.T){
 for _, m := range []string{"10.0.0.0/8","10.0.0.0/16,fd00::/64,10.2.0.0/24,10.3.0.0/24,10.5.0.0/24,fd01::/64,fd03::/64,fd05::/64"} {
 for _, l := range []bool{false,true} { for _, h := range []Hooks{XDPAndTCX,XDPAndSockets} {
  mon,_ := subnets.Parse(m)
  c := capture.Config{Mirror:true, Table: capture.NewTable(capture.DefaultLimit, 0).Monitor(capture.Subnets{Monitored: mon, Excluded: mon})}
  if l { all,_ := labels.Parse(strings.Join(labels.Names(), ",")); g := labels.New(all, labels.HostBits{V4:4,V6:64}, false); in := c.Table.Subnets(); c.Table = capture.NewGroupedTable(capture.DefaultLimit,0,g,capture.DefaultLimit).Monitor(in) }
  now := time.Now()
  p, err := load(c, 2, h)
  t.Log(m,l,h,time.Since(now),err)
  if err != nil { t.Fail(); continue }
  if i, err := p.Arriving.Info(); err==nil { n,_ := i.VerifiedInstructions(); j,_ := i.JitedSize(); t.Log("verified", n, "jited", j) }
  p.close()
 }}}
}
