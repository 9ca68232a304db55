package reconciler

// Hurry makes the next poll of a source due now.
func (s *Service) Hurry(source string) {
	p := s.source(source)
	p.schedule(0)
	p.wakeUp()
}
